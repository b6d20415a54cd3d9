"""The check of a data set reads real data of several formats, and reports what is wrong with it."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.spec.load import validate_document
from service.datasets.check_process import check
from service.datasets.folder import ARCHIVES, CheckRequest, CheckSummary, DatasetFolder
from service.settings import Settings
from service.storage.base import ArchiveKey, StorageUnavailable
from service.storage.local import LocalStorage
from tests.service.dataset_archives import tarred, zip_of, zipped


class Checked:
    """Checks archives and folders in this process."""

    def __init__(self, root: Path) -> None:
        self.settings = Settings(root=root / "service", data_roots=(root / "roots",))
        self.folder = DatasetFolder(root / "check")
        self.folder.path.mkdir()
        (root / "roots").mkdir()

    def archive(self, content: bytes, **request: Any) -> CheckSummary:
        digest = hashlib.sha256(content).hexdigest()
        source = self.folder.path.parent / "archive"
        source.write_bytes(content)
        with source.open("rb") as file:
            LocalStorage(self.settings.datasets_dir / ARCHIVES).put(ArchiveKey(digest, "id"), file)
        return self.request(content_sha256=digest, **request)

    def request(self, **request: Any) -> CheckSummary:
        given = {"content_sha256": "0" * 64, "folder": None, "sources": None, "max_bytes": 1 << 30, **request}
        made = CheckRequest(id="id", name="shapes", reference="shapes@0123456789ab", **given)
        return check(made, self.folder, self.settings)


@pytest.fixture
def checked(tmp_path: Path) -> Checked:
    return Checked(tmp_path)


def pictures(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.linear_gradient("L").resize((64, 48)).rotate(7 * number).save(path)


@pytest.mark.parametrize("pack", [zipped, tarred], ids=["zip", "tar.gz"])
def test_demo_data_is_ready_with_counts_report_document_and_thumbnails(
    pack: Callable[[Path], bytes], checked: Checked, demo_root: Path
) -> None:
    summary = checked.archive(pack(demo_root))
    assert (summary.is_ready, summary.message, summary.num_errors) == (True, None, 0)
    assert (summary.format, summary.num_images, summary.splits) == ("coco", 29, {"train": 17, "val": 6, "test": 6})
    (task,) = summary.tasks
    assert task.num_classes == len(task.classes) > 1
    assert sum(row.num_labels["train"] for row in task.classes) > 17
    report = json.loads(checked.folder.report.read_text())
    assert (report["root"], report["num_errors"]) == ("shapes@0123456789ab", 0)
    assert summary.document is not None
    assert summary.document["name"] == "shapes"
    assert summary.document["data"]["dataset"] == "shapes@0123456789ab"
    assert "root" not in summary.document["data"]
    for index in range(summary.num_thumbnails):
        with Image.open(checked.folder.thumbnail(index)) as thumbnail:
            assert thumbnail.format == "JPEG"
            assert max(thumbnail.size) <= 192
    assert 8 <= summary.num_thumbnails <= 24
    assert summary.files_bytes == sum(path.stat().st_size for path in demo_root.rglob("*") if path.is_file())


def test_given_sources_decide_how_the_data_is_read(checked: Checked, demo_root: Path, small: dict[str, Any]) -> None:
    sources = small["data"]["sources"]
    summary = checked.archive(zipped(demo_root), sources=sources)
    assert summary.is_ready, summary.problems
    assert summary.sources == sources
    assert {task.task: task.kind for task in summary.tasks} == {
        "shapes": "boxes", "identity": "boxes", "scene": "classes",
    }  # fmt: skip


def test_folders_of_classes_are_divided_into_splits(checked: Checked, tmp_path: Path) -> None:
    data = tmp_path / "data"
    pictures(data, [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(20)])
    summary = checked.archive(zipped(data))
    assert (summary.is_ready, summary.message, summary.format) == (True, None, "image_folder")
    assert sum(summary.splits.values()) == 40
    assert set(summary.splits) >= {"train", "val"}
    assert summary.document is not None
    validate_document({**summary.document, "data": {**summary.document["data"], "root": "x"}})
    assert summary.document["data"]["sources"]["images"]["split_file"] == "splits.csv"


def test_few_images_without_val_are_ready_with_a_note(checked: Checked, tmp_path: Path) -> None:
    pictures(tmp_path / "data", ["cat/1.png", "dog/1.png"])
    summary = checked.archive(zipped(tmp_path / "data"))
    assert summary.is_ready
    assert summary.message is not None
    assert "no val split" in summary.message


def test_images_without_labels_are_ready_for_predictions(checked: Checked, tmp_path: Path) -> None:
    pictures(tmp_path / "data", ["1.png", "2.png", "3.png"])
    summary = checked.archive(zipped(tmp_path / "data"))
    assert (summary.is_ready, summary.num_images, summary.num_thumbnails) == (True, 3, 3)
    assert summary.message == "has no labels, so it can be used for predictions only"
    assert (summary.document, summary.sources) == (None, None)


def test_unreadable_image_is_left_out_by_the_drafted_document(
    checked: Checked, demo_root: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(demo_root, tmp_path / "data")
    sorted((data / "images" / "train").iterdir())[0].write_bytes(b"no image")
    summary = checked.archive(zipped(data))
    assert summary.is_ready
    assert summary.document is not None
    assert summary.document["data"]["on_error"] == "skip"
    assert summary.findings["unreadable_image"] == 1
    (group,) = (group for group in summary.finding_groups if group.kind == "unreadable_image")
    assert (group.title, group.severity, group.num_findings) == ("unreadable images", "warning", 1)
    (example,) = group.examples
    assert "images/train/" in example
    assert str(tmp_path) not in example
    assert summary.message is not None
    assert "on_error: skip" in summary.message


def test_broken_labels_are_invalid_with_the_causes(checked: Checked, demo_root: Path) -> None:
    files = {
        path.relative_to(demo_root).as_posix(): path.read_bytes() for path in demo_root.rglob("*") if path.is_file()
    }
    name = "annotations/instances_train.json"
    labels = json.loads(files[name])
    labels["annotations"][0]["image_id"] = 99999
    summary = checked.archive(zip_of({**files, name: json.dumps(labels).encode()}))
    assert not summary.is_ready
    assert summary.num_errors == 1
    assert "99999" in summary.problems[0]
    assert str(checked.folder.path) not in summary.model_dump_json()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"readme.txt": b"hello"}, "has no images"),
        ({"../evil": b"1"}, "leads out"),
    ],
)
def test_unusable_archive_is_invalid(files: dict[str, bytes], message: str, checked: Checked) -> None:
    summary = checked.archive(zip_of(files))
    assert not summary.is_ready
    assert message in str(summary.message)
    assert str(checked.folder.path) not in summary.model_dump_json()


def test_quota_limits_the_extracted_files(checked: Checked) -> None:
    summary = checked.archive(zip_of({"1.png": bytes(2000)}), max_bytes=1000)
    assert "more than 1000 bytes" in str(summary.message)
    assert not checked.folder.files.exists()


def test_folder_below_a_data_root_is_read_in_place_and_not_changed(checked: Checked, demo_root: Path) -> None:
    data = shutil.copytree(demo_root, checked.settings.data_roots[0] / "demo")
    before = sorted(data.rglob("*"))
    summary = checked.request(folder="demo")
    assert (summary.is_ready, summary.num_images, summary.files_bytes) == (True, 29, 0)
    assert sorted(data.rglob("*")) == before


def test_missing_archive_is_invalid(checked: Checked) -> None:
    summary = checked.request(content_sha256="0" * 64)
    assert not summary.is_ready
    assert "upload it again" in str(summary.message)


def test_unavailable_storage_is_not_a_result(checked: Checked) -> None:
    checked.settings.datasets_dir.mkdir(parents=True)
    (checked.settings.datasets_dir / ARCHIVES).write_text("")
    with pytest.raises(StorageUnavailable):
        checked.request(content_sha256="0" * 64)


def test_images_of_a_job_are_extracted_without_being_opened(checked: Checked) -> None:
    content = zip_of({"photos/a.jpg": b"damaged", "labels.json": b"{"})
    found = checked.archive(content, is_for_jobs=True)
    assert (found.is_ready, found.num_images, found.num_files, found.num_thumbnails) == (True, 1, 2, 0)
    assert (checked.folder.files / "photos/a.jpg").read_bytes() == b"damaged"


def test_archive_of_a_job_needs_images(checked: Checked) -> None:
    found = checked.archive(zip_of({"a.txt": b""}), is_for_jobs=True)
    assert not found.is_ready
    assert str(found.message).startswith("contains no image files (.bmp")
    assert not checked.folder.files.exists()
