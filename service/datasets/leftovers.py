"""Delete what API processes that were killed have left: uploads, folders of checks, archives without a version, and
copies of models.

An archive is stored before the row of its version exists. A note in the folder of incoming files names it meanwhile, so
that an archive whose process was killed in between is found without listing the storage, which others may share.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from pipelines.base.errors import DISK_FULL_ERRNOS
from service.datasets.folder import INCOMING, all_check_folders
from service.settings import Settings
from service.storage.base import ArchiveKey, ArchiveStorage, StorageError, StorageFull, StorageUnavailable
from service.store.datasets import DatasetStore
from service.store.errors import StoreUnavailable

log = logging.getLogger(__name__)

CLEAN_EVERY_S = 600.0
_NOTE = ".storing"


@contextlib.contextmanager
def noted(datasets_dir: Path, key: ArchiveKey) -> Iterator[None]:
    """Note an archive while it is stored and its version is added.

    The note remains if the storage or the database breaks: the archive may be stored, with or without its version.

    Raises:
        StorageFull: the disk is full.
    """
    note = datasets_dir / INCOMING / f"{key.sha256}.{key.owner}{_NOTE}"
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()
    except OSError as error:
        if error.errno not in DISK_FULL_ERRNOS:
            raise
        raise StorageFull(f"the disk of {datasets_dir} is full; free some space") from error
    try:
        yield
    except (StoreUnavailable, StorageUnavailable):
        raise
    except BaseException:
        note.unlink(missing_ok=True)
        raise
    note.unlink(missing_ok=True)


class Leftovers:
    """Finds and deletes leftovers.

    Args:
        store: knows all versions.
        storage: of the archives.
        settings: with the folders, and the maximum duration of an upload; what is older than twice this time belongs to
            no upload and to no download.
    """

    def __init__(self, store: DatasetStore, storage: ArchiveStorage, settings: Settings) -> None:
        self._store, self._storage = store, storage
        self._datasets_dir, self._downloads_dir = settings.datasets_dir, settings.downloads_dir
        self._max_age_s = 2 * settings.upload_timeout_s

    def remove(self) -> None:
        """Delete all leftovers; what cannot be deleted now remains for the next call."""
        for step in (self._remove_uploads, self._remove_checks, self._remove_downloads, self._storage_partials):
            try:
                step()
            except (OSError, StorageError, StoreUnavailable) as error:
                log.warning("leftovers of data sets are not deleted yet: %s", error)

    def _remove_uploads(self) -> None:
        for path in self._old(self._datasets_dir / INCOMING):
            with contextlib.suppress(FileNotFoundError):
                self._remove_archive_without_version(path)
                path.unlink()

    def _remove_downloads(self) -> None:
        for path in self._old(self._downloads_dir):
            shutil.rmtree(path, ignore_errors=True)

    def _old(self, folder: Path) -> Iterator[Path]:
        now = time.time()
        for path in folder.glob("*"):
            with contextlib.suppress(FileNotFoundError):
                # A time in the future was written before the clock was set back.
                if abs(now - path.stat().st_mtime) > self._max_age_s:
                    yield path

    def _remove_archive_without_version(self, note: Path) -> None:
        key = ArchiveKey.parse(note.name.removesuffix(_NOTE).replace(".", "/"))
        if key is not None and not self._store.check_owners([key.owner]):
            self._storage.delete(key)
            log.info("archive %s: deleted, since its upload was interrupted", key)

    def _remove_checks(self) -> None:
        # The folder of a check is created after its claim, so a folder that is found before the claims are read
        # belongs to one of them, or to nobody.
        folders = all_check_folders(self._datasets_dir)
        owners = self._store.check_owners({dataset_id for dataset_id, _ in folders})
        for (dataset_id, owner), path in folders.items():
            if owners.get(dataset_id) != owner:
                shutil.rmtree(path, ignore_errors=True)

    def _storage_partials(self) -> None:
        if number := self._storage.remove_partial(self._max_age_s):
            log.info("%d incomplete archives: deleted", number)
