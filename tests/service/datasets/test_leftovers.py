"""Leftovers of uploads: only old ones are deleted, and only archives whose row was never written."""

import hashlib
import io
import os
from pathlib import Path

from service.datasets.leftovers import clean_incoming, mark_archive
from service.principal import LOCAL_USER
from service.storage.base import ArchiveKey
from service.storage.local import LocalStorage
from service.store.database import open_database
from service.store.dataset_records import NewDatasetVersion
from service.store.datasets import DatasetStore

CONTENT = b"an archive"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
OLD_S = 1000.0


def test_archive_without_a_row_is_deleted_when_its_upload_is_old(tmp_path: Path) -> None:
    incoming, storage = tmp_path / "incoming", LocalStorage(tmp_path / "archives")
    store = DatasetStore(open_database(f"sqlite:///{tmp_path}/service.db"))
    store.create(NewDatasetVersion("written", "images", DIGEST, DIGEST), LOCAL_USER, 1000)
    for owner in ("written", "killed", "recent", "unmarked"):
        key = ArchiveKey(DIGEST, owner)
        storage.put(key, io.BytesIO(CONTENT))
        if owner != "unmarked":
            mark = mark_archive(incoming, key)
            if owner != "recent":
                os.utime(mark, (0, 0))
    (incoming / "incomplete").write_bytes(b"x")
    os.utime(incoming / "incomplete", (0, 0))
    (incoming / "in progress").write_bytes(b"x")
    clean_incoming(incoming, OLD_S, store, storage)
    assert sorted(key.owner for key in list(storage.keys())) == ["recent", "unmarked", "written"]
    assert sorted(path.name for path in incoming.iterdir()) == sorted(["in progress", f"{DIGEST}-recent.stored"])
