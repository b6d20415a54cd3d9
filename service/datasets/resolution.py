"""Data sets that documents name: the version is pinned, and its files are found, when a job is submitted."""

from collections.abc import Sequence
from pathlib import Path

from pipelines.base.errors import ConfigError
from pipelines.data.dataset.roots import find_root
from pipelines.spec.data import require_dataset_reference
from service.datasets.errors import DatasetError
from service.datasets.folder import FILES, version_folder
from service.datasets.listing import list_folder
from service.datasets.usable import UsableDataset
from service.principal import Principal
from service.settings import Settings
from service.store.dataset_records import DatasetStatus, DatasetVersion, NewDatasetVersion, reference_of
from service.store.datasets import DatasetStore
from service.store.errors import DatasetNotFound


class DatasetUnusable(DatasetError):
    """A job cannot use the data set that its document names."""


def data_roots_of_jobs(settings: Settings) -> Sequence[Path]:
    """Return the folders in which jobs find their data.

    Documents of clients must not name the last one themselves: it has the data sets of all tenants.
    """
    return (*settings.data_roots, settings.datasets_dir)


def find_version(principal: Principal, store: DatasetStore, name: str, version: str | None) -> DatasetVersion:
    """Return a version by the first digits of its digest, or the newest ready one for None.

    Of equal names, an administrator gets the one of the own tenant, so that a name means the same for all its keys.

    Raises:
        DatasetNotFound: the principal sees no such version.
    """
    try:
        return store.find(principal.tenant, name, version)
    except DatasetNotFound:
        if principal.visible_tenant is not None:
            raise
        return store.find(None, name, version)


def usable_dataset(reference: str, principal: Principal, store: DatasetStore, settings: Settings) -> UsableDataset:
    """Return the version that a document names, or for a name without a version the newest one that is ready.

    Raises:
        DatasetUnusable: it does not exist, is not ready, or its files have changed or are missing.
    """
    try:
        name, _, version = require_dataset_reference(reference).partition("@")
    except ValueError as error:
        raise DatasetUnusable(str(error)) from error
    try:
        found = find_version(principal, store, name, version or None)
    except DatasetNotFound as error:
        raise DatasetUnusable(f"got {reference!r}; {error}") from error
    if found.status is not DatasetStatus.READY:
        reason = f" ({found.message})" if found.message else ""
        raise DatasetUnusable(f"got {reference!r}, which is {found.status}{reason}; name a version that is ready")
    return UsableDataset(found.id, found.reference, _root(found, store, settings), found.sources)


def dataset_of_images(new: NewDatasetVersion) -> UsableDataset:
    """Return images that are uploaded with a job, as the job will read them."""
    return UsableDataset(new.id, reference_of(new.name, new.sha256), f"{new.id}/{FILES}", None)


def _root(version: DatasetVersion, store: DatasetStore, settings: Settings) -> str:
    if version.folder is not None:
        _require_unchanged(version, version.folder, settings)
        return version.folder
    if not version_folder(settings.datasets_dir, version.id).files.is_dir():
        store.check_again(version.id)
        raise DatasetUnusable(
            f"got {version.reference!r}, whose files are missing on this server; they are extracted again from the "
            "archive, so submit the job again when the version is ready"
        )
    return f"{version.id}/{FILES}"


def _require_unchanged(version: DatasetVersion, folder: str, settings: Settings) -> None:
    try:
        listing = list_folder(find_root(folder, settings.data_roots), settings.dataset_max_files)
    except (ConfigError, DatasetError) as error:
        raise DatasetUnusable(f"got {version.reference!r}, whose folder {folder!r} cannot be used: {error}") from error
    if listing.digest != version.content_sha256:
        raise DatasetUnusable(
            f"got {version.reference!r}, but files in the folder {folder!r} have changed since it was registered; "
            "register the folder again, and name its new version"
        )
