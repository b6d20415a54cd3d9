"""What uploads leave that ended with their process: incomplete files, and archives whose row was never written.

An archive is stored before its row, so that no row lacks its archive. Until the row is written, an empty file beside
the incomplete uploads names the archive; another service that uses the same storage is thus never affected.
"""

import contextlib
import time
from pathlib import Path

from service.storage.base import ArchiveKey, ArchiveStorage, StorageError
from service.store.datasets import DatasetStore

_SUFFIX = ".stored"
_SEPARATOR = "-"


def mark_archive(folder: Path, key: ArchiveKey) -> Path:
    """Write the file that names an archive without a row; delete it when the row is written or the archive deleted."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / f"{key.sha256}{_SEPARATOR}{key.owner}{_SUFFIX}"
    mark.touch()
    return mark


def clean_incoming(folder: Path, older_than_s: float, store: DatasetStore, storage: ArchiveStorage) -> None:
    """Delete what uploads have left that started before `older_than_s`; uploads that started later may be in progress.

    Raises:
        StoreUnavailable: the database cannot be read at the moment.
    """
    for path in folder.glob("*"):
        with contextlib.suppress(OSError, StorageError):
            if time.time() - path.stat().st_mtime <= older_than_s:
                continue
            if path.suffix == _SUFFIX:
                key = ArchiveKey.parse(path.stem.replace(_SEPARATOR, "/"))
                if key is not None and not store.exists(key.owner):
                    storage.delete(key)
            path.unlink()
