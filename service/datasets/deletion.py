"""Delete the files of a version of a data set."""

import shutil
from pathlib import Path

from pipelines.run_folder.files import remove_folder
from service.datasets.folder import check_folders, version_folder
from service.storage.base import ArchiveKey, ArchiveStorage
from service.store.dataset_records import DatasetVersion


def delete_content(version: DatasetVersion, storage: ArchiveStorage, datasets_dir: Path) -> None:
    """Delete the folder and the archive of a version; what is missing is ignored.

    Raises:
        StorageUnavailable: the archive cannot be deleted at the moment.
        OSError: the folder cannot be deleted.
    """
    remove_folder(version_folder(datasets_dir, version.id).path)
    for path in check_folders(datasets_dir, version.id):
        # A check that is still running for some seconds writes to it, and removes it when it notices.
        shutil.rmtree(path, ignore_errors=True)
    if version.folder is None:
        storage.delete(ArchiveKey(version.content_sha256, version.id))
