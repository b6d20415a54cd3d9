"""What killed API processes leave is deleted; what belongs to a version, an upload or a check is kept."""

import hashlib
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.datasets.folder import check_folder
from service.datasets.leftovers import Leftovers, noted
from service.datasets.use_cases import Datasets, ReceivedArchive
from service.principal import LOCAL_USER
from service.settings import Settings
from service.storage.base import ArchiveKey, StorageUnavailable
from service.storage.local import LocalStorage
from service.store.database import open_database
from service.store.dataset_records import CheckedDataset, DatasetStatus, NewDatasetVersion
from service.store.datasets import DatasetStore
from tests.service.dataset_requests import files_below

CONTENT = b"PK the content"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
TIMEOUT_S = 100.0


class Root:
    """The data sets of a service whose API was killed."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(root=folder / "root", upload_timeout_s=TIMEOUT_S)
        self.datasets_dir = self.settings.datasets_dir
        (self.datasets_dir / "incoming").mkdir(parents=True)
        self.engine = open_database(self.settings.url_of_database)
        self.store = DatasetStore(self.engine)
        self.storage = LocalStorage(self.datasets_dir / "archives")
        self.datasets = Datasets(self.store, self.storage, self.settings, models=lambda runs: [])

    def version(self, dataset_id: str) -> None:
        new = NewDatasetVersion(dataset_id, "shapes", DIGEST, DIGEST, len(CONTENT))
        self.store.create(new, LOCAL_USER, 1 << 30)

    def interrupt_storing(self, key: ArchiveKey) -> None:
        with pytest.raises(StorageUnavailable), noted(self.datasets_dir, key):  # noqa: PT012
            self.storage.put(key, io.BytesIO(CONTENT))
            raise StorageUnavailable("as if the process had been killed")

    def upload(self) -> str:
        path = self.datasets_dir / "incoming" / "upload"
        path.write_bytes(CONTENT)
        details, _ = self.datasets.add_archive(
            LOCAL_USER, "shapes", ReceivedArchive(path, DIGEST, len(CONTENT)), sources=None
        )
        path.unlink()
        return details.version.id

    def clean(self) -> None:
        Leftovers(self.store, self.storage, self.settings).remove()

    def make_older(self, seconds: float) -> None:
        for path in [path for path in self.datasets_dir.rglob("*") if path.is_file()]:
            make_older(path, seconds)


def make_older(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    root = Root(tmp_path)
    yield root
    root.engine.dispose()


def test_archive_of_an_interrupted_upload_is_deleted_unless_its_version_was_added(root: Root) -> None:
    kept, lost = ArchiveKey(DIGEST, "kept"), ArchiveKey(DIGEST, "lost")
    root.version("kept")
    for key in (kept, lost):
        root.interrupt_storing(key)
    (root.datasets_dir / "incoming" / "0123abcd").write_bytes(CONTENT)
    before = files_below(root.datasets_dir)
    root.clean()
    assert files_below(root.datasets_dir) == before, "they may belong to uploads in progress"
    root.make_older(2 * TIMEOUT_S + 1)
    root.clean()
    assert files_below(root.datasets_dir) == [f"archives/{kept}"]


def test_upload_with_a_time_in_the_future_is_deleted_after_the_clock_was_set_back(root: Root) -> None:
    (root.datasets_dir / "incoming" / "0123abcd").write_bytes(CONTENT)
    root.make_older(-86_400)
    root.clean()
    assert files_below(root.datasets_dir) == []


def test_folders_of_checks_are_deleted_if_nobody_has_their_claim(root: Root) -> None:
    root.version("id")
    assert root.store.claim_check("now", 60) is not None
    folders = [
        check_folder(root.datasets_dir, dataset_id, owner).path
        for dataset_id, owner in (("id", "now"), ("id", "earlier"), ("deleted", "now"))
    ]
    for folder in folders:
        folder.mkdir()
    root.clean()
    assert [folder.exists() for folder in folders] == [True, False, False]


def test_incomplete_archives_are_deleted_once_they_are_old(root: Root) -> None:
    partial = root.datasets_dir / "archives" / "partial" / "x"
    partial.parent.mkdir(parents=True)
    partial.touch()
    root.make_older(2 * TIMEOUT_S - 50)
    root.clean()
    assert partial.exists()
    root.make_older(2 * TIMEOUT_S + 1)
    root.clean()
    assert not partial.exists()


def test_copies_of_models_are_deleted_once_they_are_old(root: Root) -> None:
    old, new = root.settings.downloads_dir / "old", root.settings.downloads_dir / "new"
    for folder in (old, new):
        (folder / "model").mkdir(parents=True)
        (folder / "model/model.safetensors").touch()
    make_older(old, 2 * TIMEOUT_S + 1)
    root.clean()
    assert [folder.exists() for folder in (old, new)] == [False, True]


def test_upload_leaves_no_note_and_no_second_archive(root: Root) -> None:
    first = root.upload()
    assert root.upload() == first
    assert files_below(root.datasets_dir) == [f"archives/{DIGEST}/{first}"]


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_lost_archive_is_repaired_by_uploading_it_again(root: Root, damage: str) -> None:
    first = root.upload()
    path = root.datasets_dir / "archives" / DIGEST / first
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"other content")
    assert root.store.claim_check("me", 60) is not None
    assert root.store.finish_check(first, "me", CheckedDataset(False, "the storage has no archive; upload it again"))
    assert root.upload() == first
    assert path.read_bytes() == CONTENT
    assert [version.status for version in root.store.page(None)] == [DatasetStatus.CHECKING]
    assert files_below(root.datasets_dir) == [f"archives/{DIGEST}/{first}"]
