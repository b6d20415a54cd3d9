"""One run of `pyramidion gc`: find what the rules do not keep, and delete it.

The order survives a crash at any moment: a job is marked in the database, then its folder is deleted, then its row. The
next run finishes what is marked. Everything else is deleted file by file or row by row, so that a repetition is safe,
also in two processes at the same time.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from pipelines.run_folder.files import remove_folder, rename_synced
from pipelines.tracking.mlflow_store import find_store
from pipelines.tracking.registry import Registry
from service.datasets.folder import version_folder
from service.principal import LOCAL_TENANT, Principal
from service.retention.candidates import DeletedKind, Deletion, find_deletions, folder_bytes
from service.retention.protection import Protection
from service.retention.run_objects import delete_objects_of_ended_jobs
from service.run_sync.opening import run_objects
from service.settings import Settings
from service.storage.base import StorageError
from service.store.database import Database
from service.store.datasets import DatasetStore
from service.store.errors import DatasetInUse, DatasetNotFound, NotEnded, NotFound
from service.store.jobs import JobStore
from service.store.retention import RetentionStore

log = logging.getLogger(__name__)

GC = Principal("gc", LOCAL_TENANT)
"""The actor of these deletions in the audit log."""


class Collection:
    """One run over a root and its database.

    Attributes:
        problems: what could not be deleted or decided, as sentences.
    """

    def __init__(self, settings: Settings, engine: Database, registry: Registry | None = None) -> None:
        self.problems: list[str] = []
        self._settings = settings
        self._store = RetentionStore(engine)
        self._jobs = JobStore(engine)
        self._datasets = DatasetStore(engine)
        self._protection = Protection(settings, self._store, registry or Registry(find_store(settings.root)))

    def find(self) -> Iterator[Deletion]:
        """Yield what would be deleted: first the jobs whose deletion was interrupted, then what the rules do not keep.

        Raises:
            StoreUnavailable: the database cannot be read at the moment.
        """
        for job_id in self._store.marked():
            folder = self._settings.run_dir(job_id)
            reason = "its deletion was interrupted"
            yield Deletion(DeletedKind.JOB, job_id, "", reason, (folder,), folder_bytes(folder))
        yield from find_deletions(self._settings, self._store, self._protection, time.time())
        if self._protection.problem is not None:
            self.problems.append(self._protection.problem)

    def carry_out(self, report: Callable[[Deletion], None] = lambda deletion: None) -> list[Deletion]:
        """Delete what `find` yields, and return it; what cannot be deleted is a problem, and the rest continues.

        Args:
            report: called after each deletion.

        Raises:
            StoreUnavailable: the database cannot be used at the moment.
        """
        done: list[Deletion] = []
        for deletion in list(self.find()):
            try:
                is_deleted = self._delete(deletion)
            except OSError as error:
                self.problems.append(f"{error.filename or deletion.subject}: {error.strerror}; it was not deleted")
                continue
            if is_deleted:
                log.info("%s: deleted; %s", deletion.subject, deletion.reason)
                done.append(deletion)
                report(deletion)
        self._delete_images_of_deleted_jobs()
        self._delete_objects()
        return done

    def _delete(self, deletion: Deletion) -> bool:
        if deletion.kind is DeletedKind.JOB:
            return self._delete_job(deletion.job_id)
        if deletion.kind is DeletedKind.EVENTS:
            self._store.delete_events(deletion.job_id)
            return True
        if deletion.kind is DeletedKind.DATASET:
            return self._delete_dataset(deletion.job_id)
        if deletion.kind is DeletedKind.CHECKPOINT:
            return self._delete_checkpoints(deletion)
        for path in deletion.paths:
            path.unlink(missing_ok=True)
        return True

    def _delete_checkpoints(self, deletion: Deletion) -> bool:
        """Delete checkpoints, unless a job names their run that was submitted meanwhile."""
        # A job that is submitted after the question below does not find the files any more.
        hidden = {path: path.with_name(f"{path.name}.deleted") for path in deletion.paths}
        for path, new in hidden.items():
            with suppress(FileNotFoundError):
                rename_synced(path, new, content_is_synced=True)
        is_named = self._protection.is_named_now(deletion.job_id)
        for path, new in hidden.items():
            with suppress(FileNotFoundError):
                if is_named:
                    rename_synced(new, path, content_is_synced=True)
                else:
                    new.unlink()
        return not is_named

    def _delete_dataset(self, dataset_id: str) -> bool:
        """Let no job use a version any more, and delete its files.

        The API deletes its archive and then its row (`service.datasets.checks`): here the storage may be unknown.
        """
        try:
            self._datasets.start_deletion(dataset_id, GC)
        except (DatasetInUse, DatasetNotFound):  # used or deleted meanwhile
            return False
        remove_folder(version_folder(self._settings.datasets_dir, dataset_id).path)
        return True

    def _delete_images_of_deleted_jobs(self) -> None:
        """Delete the files of versions that were uploaded with jobs; the API deletes their archives and rows."""
        for version in self._datasets.deleting():
            try:
                remove_folder(version_folder(self._settings.datasets_dir, version.id).path)
            except OSError as error:
                self.problems.append(f"{version.reference}: {error.strerror}; its files will be deleted later")

    def _delete_objects(self) -> None:
        """Delete the objects of run folders whose jobs have ended or were deleted."""
        try:
            if (store := run_objects(self._settings)) is not None:
                delete_objects_of_ended_jobs(store, self._jobs)
        except StorageError as error:
            self.problems.append(f"objects of ended jobs will be deleted later: {error}")

    def _delete_job(self, job_id: str) -> bool:
        if not self._store.mark(job_id, self._protection.newest_job):
            return False
        remove_folder(self._settings.run_dir(job_id))
        try:
            self._jobs.delete(job_id, GC)
        except (NotFound, NotEnded):  # deleted by somebody else meanwhile
            return False
        return True
