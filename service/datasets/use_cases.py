"""The use cases of data sets. Each acts on behalf of a principal, and knows nothing of HTTP.

Every method blocks: call it in a thread.
"""

import hashlib
import json
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipelines.base.errors import ConfigError
from pipelines.data.dataset.roots import find_root
from service.datasets.deletion import delete_content
from service.datasets.errors import FolderInvalid
from service.datasets.folder import CheckSummary, DatasetFolder, version_folder
from service.datasets.leftovers import noted
from service.datasets.listing import list_folder
from service.datasets.resolution import find_version
from service.disk_space import require_free_space
from service.principal import Principal
from service.settings import Settings
from service.storage.base import ArchiveKey, ArchiveStorage
from service.store.dataset_records import DatasetStatus, DatasetVersion, JobImages, NewDatasetVersion
from service.store.datasets import DatasetStore
from service.store.errors import DatasetInUse, StoreUnavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

NEWEST = "latest"
"""The name of the newest version that is ready."""

Models = Callable[[Sequence[str]], Sequence[str]]
"""Returns, of some MLflow runs, the models that they registered, as NAME version N."""


@dataclass(frozen=True)
class ReceivedArchive:
    """A complete upload in a file of this machine."""

    path: Path
    sha256: str
    num_bytes: int


@dataclass(frozen=True)
class DatasetQuery:
    """A selection of versions, newest first."""

    name: str | None = None
    statuses: Sequence[DatasetStatus] = ()
    before_number: int | None = None
    limit: int = 50


@dataclass(frozen=True)
class DatasetDetails:
    """A version with the result of its check, if there is one."""

    version: DatasetVersion
    summary: CheckSummary | None
    folder: DatasetFolder


class Datasets:
    """The use cases over one store.

    Args:
        models: finds the models that keep a version from being deleted; it may raise RegistryError.
    """

    def __init__(self, store: DatasetStore, storage: ArchiveStorage, settings: Settings, models: Models) -> None:
        self._store, self._storage, self._settings, self._models = store, storage, settings, models

    def free_bytes(self, principal: Principal) -> int:
        """Return the number of bytes that the principal may still upload.

        Raises:
            QuotaExceeded: there are none.
            DiskAlmostFull: the disk of the root has too little free space.
        """
        with suppress(OSError):  # readiness reports a root that cannot be read
            require_free_space(self._settings)
        return self._store.free_bytes(principal, self._settings.dataset_quota_bytes)

    def add_archive(
        self, principal: Principal, name: str, archive: ReceivedArchive, sources: dict[str, Any] | None
    ) -> tuple[DatasetDetails, bool]:
        """Store an archive as a version, and let it be checked; return False with a version that existed already.

        Raises:
            QuotaExceeded: the data sets of the tenant would be too large.
            DatasetBeingDeleted: the version with this content is being deleted.
            DiskAlmostFull: the disk of the root has too little free space.
            StorageError: the archive cannot be stored.
        """
        self._require_space_for(archive)
        digest = _version_digest(archive.sha256, sources)
        # The archive of an invalid version may be missing or damaged, which is repaired by replacing it.
        invalid_id = self._store.find_invalid(principal.tenant, name, digest)
        new = NewDatasetVersion(
            id=invalid_id or secrets.token_hex(6),
            name=name,
            sha256=digest,
            content_sha256=archive.sha256,
            archive_bytes=archive.num_bytes,
            sources=sources,
        )

        def create() -> tuple[tuple[DatasetVersion, bool], bool]:
            version, is_new = self._store.create(new, principal, self._settings.dataset_quota_bytes)
            return (version, is_new), version.id == new.id

        version, is_new = self._with_archive(new, archive, create)
        return self._added(principal, version, is_new=is_new)

    def new_images(self, archive: ReceivedArchive) -> JobImages:
        """Return an archive of images as the data set of a job, which nothing was stored of yet."""
        version_id = secrets.token_hex(6)
        version = NewDatasetVersion(
            id=version_id,
            name=f"images-{version_id}",
            sha256=archive.sha256,
            content_sha256=archive.sha256,
            archive_bytes=archive.num_bytes,
            of_jobs=True,
        )
        return JobImages(version, self._settings.dataset_quota_bytes)

    def store_images(
        self, archive: ReceivedArchive, images: JobImages, queue: Callable[[], tuple[T, bool]]
    ) -> tuple[T, bool]:
        """Store an archive of images, and queue the job that they belong to.

        Args:
            archive: the upload.
            images: its future version.
            queue: writes the job and the version in one transaction; returns the job, with False if it existed before.

        Raises:
            DiskAlmostFull: the disk of the root has too little free space.
            StorageError: the archive cannot be stored.
            QuotaExceeded: the data sets of the tenant would be too large.
        """
        self._require_space_for(archive)

        def write() -> tuple[tuple[T, bool], bool]:
            job, is_new = queue()
            return (job, is_new), is_new

        return self._with_archive(images.version, archive, write)

    def _with_archive(self, new: NewDatasetVersion, archive: ReceivedArchive, write: Callable[[], tuple[T, bool]]) -> T:
        """Store an archive and write its row; the archive is deleted if `write` fails, or returns that it is unused."""
        key = ArchiveKey(new.content_sha256, new.id)
        with noted(self._settings.datasets_dir, key):
            with archive.path.open("rb") as file:
                self._storage.put(key, file)
            try:
                written, is_used = write()
            except StoreUnavailable:
                raise  # the row may have been written
            except Exception:
                self._storage.delete(key)
                raise
            if not is_used:
                self._storage.delete(key)
        return written

    def _require_space_for(self, archive: ReceivedArchive) -> None:
        """Raise DiskAlmostFull if storing an archive on the disk of the root would leave too little free space."""
        is_local = self._storage.local_path(ArchiveKey(archive.sha256, "any")) is not None
        with suppress(OSError):  # readiness reports a root that cannot be read
            require_free_space(self._settings, archive.num_bytes if is_local else 0)

    def add_folder(
        self, principal: Principal, name: str, folder: str, sources: dict[str, Any] | None
    ) -> tuple[DatasetDetails, bool]:
        """Register a folder below a data root as a version, and let it be checked; return as `add_archive` does.

        Raises:
            FolderInvalid: the folder does not exist, or is not allowed.
        """
        try:
            path = find_root(folder, self._settings.data_roots)
        except ConfigError as error:
            raise FolderInvalid(error.problems[0].message) from error
        listing = list_folder(path, self._settings.dataset_max_files)
        new = NewDatasetVersion(
            id=secrets.token_hex(6),
            name=name,
            sha256=_version_digest(listing.digest, sources),
            content_sha256=listing.digest,
            folder=folder,
            sources=sources,
        )
        version, is_new = self._store.create(new, principal, self._settings.dataset_quota_bytes)
        return self._added(principal, version, is_new=is_new)

    def _added(self, principal: Principal, version: DatasetVersion, *, is_new: bool) -> tuple[DatasetDetails, bool]:
        if is_new:
            log.info("data set %s: added by %s", version.reference, principal.name)
        return self._details(version), is_new

    def page(self, principal: Principal, query: DatasetQuery) -> tuple[list[DatasetVersion], bool]:
        """Return the versions of a query, newest first, and whether more follow."""
        found = self._store.page(
            principal.visible_tenant, name=query.name, statuses=query.statuses, before_number=query.before_number,
            limit=query.limit + 1,
        )  # fmt: skip
        return found[: query.limit], len(found) > query.limit

    def view(self, principal: Principal, name: str, version: str) -> DatasetDetails:
        """Return a version by the first digits of its digest, or the newest ready one for `latest`.

        Raises:
            DatasetNotFound: the principal sees no such version.
        """
        return self._details(self._find(principal, name, version))

    def delete(self, principal: Principal, name: str, version: str) -> None:
        """Delete a version with its files.

        Raises:
            DatasetNotFound: the principal sees no such version.
            DatasetInUse: jobs or models need it.
            StorageUnavailable: the archive cannot be deleted at the moment; the server tries again.
            RegistryError: MLflow does not answer, so that it is unknown whether models need it.
        """
        found = self._find(principal, name, version)
        runs = self._store.runs_of_deleted_jobs(found.id)
        if runs and (models := self._models(runs)):
            raise DatasetInUse(found.reference, models)
        self._store.start_deletion(found.id, principal, runs)
        delete_content(found, self._storage, self._settings.datasets_dir)
        self._store.finish_deletion(found.id)
        log.info("data set %s: deleted by %s", found.reference, principal.name)

    def _find(self, principal: Principal, name: str, version: str) -> DatasetVersion:
        return find_version(principal, self._store, name, None if version == NEWEST else version)

    def _details(self, version: DatasetVersion) -> DatasetDetails:
        folder = version_folder(self._settings.datasets_dir, version.id)
        is_checked = version.status in (DatasetStatus.READY, DatasetStatus.INVALID)
        return DatasetDetails(version, folder.read_summary() if is_checked else None, folder)


def _version_digest(content: str, sources: Mapping[str, Any] | None) -> str:
    """Return the version of some content: its digest, together with the way it is read if the client has given one."""
    if sources is None:
        return content
    canonical = json.dumps(sources, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(f"{content} {canonical}".encode()).hexdigest()
