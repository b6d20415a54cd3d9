"""Delete the files of a version of a data set."""

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
    for path in (version_folder(datasets_dir, version.id).path, *check_folders(datasets_dir, version.id)):
        remove_folder(path)
    if version.folder is None:
        storage.delete(ArchiveKey(version.content_sha256, version.id))
