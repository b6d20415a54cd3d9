"""Archives in a folder of this machine, or of a file system that all machines share."""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pipelines.base.errors import DISK_FULL_ERRNOS
from pipelines.run_folder.files import create_folder, rename_synced
from service.storage.base import (
    ArchiveKey,
    ArchiveMissing,
    ArchiveStorage,
    DigestReader,
    StorageError,
    StorageFull,
    StorageUnavailable,
)

_PARTIAL = "partial"
"""Folder of incomplete archives, on the same file system; no key has this name."""


class LocalStorage(ArchiveStorage):
    """Stores the archive with the key DIGEST/OWNER as the file of that name in a folder."""

    def __init__(self, folder: Path) -> None:
        self.label = str(folder)
        self._folder = folder

    def put(self, key: ArchiveKey, content: BinaryIO) -> None:
        with self._translated():
            partial = self._folder / _PARTIAL
            create_folder(partial)
            descriptor, name = tempfile.mkstemp(dir=partial)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    for chunk in DigestReader(key, content).chunks():
                        file.write(chunk)
                path = self._path(key)
                create_folder(path.parent)
                rename_synced(Path(name), path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise

    def read(self, key: ArchiveKey) -> Iterator[bytes]:
        with self._translated():
            try:
                file = self._path(key).open("rb")
            except FileNotFoundError:
                raise ArchiveMissing(key) from None
            with file:
                yield from DigestReader(key, file).chunks()

    def local_path(self, key: ArchiveKey) -> Path | None:
        return self._path(key)

    def delete(self, key: ArchiveKey) -> None:
        with self._translated():
            path = self._path(key)
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # other owners store the same content, or nothing was stored
                path.parent.rmdir()

    def keys(self) -> Iterator[ArchiveKey]:
        with self._translated():
            for path in sorted(self._folder.glob("*/*")):
                if (key := ArchiveKey.parse(f"{path.parent.name}/{path.name}")) is not None:
                    yield key

    def remove_partial(self, older_than_s: float) -> int:
        removed = 0
        with self._translated():
            for path in (self._folder / _PARTIAL).glob("*"):
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - path.stat().st_mtime > older_than_s:
                        path.unlink()
                        removed += 1
        return removed

    def _path(self, key: ArchiveKey) -> Path:
        return self._folder / key.sha256 / key.owner

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise
        except OSError as error:
            if error.errno in DISK_FULL_ERRNOS:
                raise StorageFull(f"the disk of {self.label} is full; free some space") from error
            raise StorageUnavailable(f"{self.label} cannot be used ({error.strerror})") from error
