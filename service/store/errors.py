"""Errors of the store. Callers never see an exception of the database driver.

StoreError
├── NotFound            no job has this id
├── KeyReused           an idempotency key was sent again with another body
├── AlreadyEnded        a job that succeeded or failed cannot be cancelled
├── NotQueued           the priority of a job can change only while it is queued
├── NotEnded            only a job that has ended, and whose final status MLflow has, can be deleted
├── LeaseLost           another supervisor owns the job, or the job is no longer active
├── Superseded          another supervisor has taken the lease of all jobs
├── CancelRequested     a cancel request was recorded first: the job ends as cancelled
├── IllegalTransition   `service.states.TRANSITIONS` does not allow it for this writer
├── DatasetNotFound     no version of a data set has this name
├── DatasetBeingDeleted the version with this content is being deleted
├── DatasetInUse        a version that jobs or models need cannot be deleted
├── QuotaExceeded       the data sets of a tenant or of a key would be larger than its quota
├── QueueLimit          the key that submits a job has too many jobs in the queue
├── SweepNotFound       no sweep has this id
├── SweepEnded          a sweep that succeeded or failed cannot be cancelled
├── SweepNotEnded       only a sweep that has ended, and whose final status MLflow has, can be deleted
├── KeyUnknown          no API key has this id
├── SchemaUnknown       the database was created by a newer version, or by another application
└── StoreUnavailable    the database cannot be opened, read or written at the moment; nothing was changed
    ├── StoreFull       its disk is full
    ├── SchemaChanged   another version has migrated it while this process had it open
    └── OutcomeUnknown  the connection broke during a commit: the change may have been made
"""

from collections.abc import Sequence
from typing import Literal

from service.states import JobStatus
from service.store.records import Job


class StoreError(Exception):
    """Base of all errors of the store."""


class StoreUnavailable(StoreError):
    """The database cannot be opened, read or written at the moment; nothing was changed, so a retry is safe."""


class StoreFull(StoreUnavailable):
    """The disk of the database is full; nothing was changed."""


class SchemaChanged(StoreUnavailable):
    """Another version of this project has migrated the database while this process had it open."""

    def __init__(self) -> None:
        super().__init__(
            "the schema of the service's database was changed by another version of pyramidion; restart this service "
            "with that version"
        )


class OutcomeUnknown(StoreUnavailable):
    """The connection broke while a change was committed: it was made completely or not at all."""


class NotFound(StoreError):
    """No job has this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job has the id {job_id!r}; GET /v1/jobs lists all jobs")
        self.job_id = job_id


class KeyReused(StoreError):
    """The idempotency key belongs to a request with another body."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"Idempotency-Key {key!r} was used for another request; send the same body again, or choose a new key"
        )
        self.key = key


class DatasetNotFound(StoreError):
    """No version of a data set has this name, or none of the name is ready."""

    def __init__(self, name: str, version: str | None) -> None:
        what = (
            f"no version of a data set named {name!r} is ready"
            if version is None
            else f"no data set is named {name}@{version}"
        )
        super().__init__(f"{what}; GET /v1/datasets lists all versions")


class DatasetBeingDeleted(StoreError):
    """The version with this content is being deleted."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"data set {reference} is being deleted; upload it again in a moment")


class DatasetInUse(StoreError):
    """A version that jobs or models need cannot be deleted."""

    def __init__(self, reference: str, users: Sequence[str]) -> None:
        super().__init__(f"data set {reference} is needed by {', '.join(users)}; delete these first")
        self.users = tuple(users)


QuotaOwner = Literal["tenant", "key"]


class QuotaExceeded(StoreError):
    """The data sets of a tenant or of a key would be larger than its quota."""

    def __init__(self, owner: QuotaOwner, used: int, more: int, quota: int) -> None:
        setting = {
            "tenant": "PYRAMIDION_DATASET_QUOTA_BYTES",
            "key": "PYRAMIDION_KEY_STORAGE_BYTES, or create a key with a higher limit (--storage-bytes)",
        }[owner]
        super().__init__(
            f"the data sets of this {owner} use {used} of {quota} bytes, so that {more} more do not fit; delete "
            f"versions, or let the operator raise {setting}"
        )


class _JobError(StoreError):
    """The job's state does not allow the call; `job` is the job at that moment."""

    def __init__(self, job: Job, message: str) -> None:
        super().__init__(message)
        self.job = job


class AlreadyEnded(_JobError):
    """The job succeeded or failed and can no longer be cancelled."""

    def __init__(self, job: Job) -> None:
        super().__init__(
            job, f"job {job.id} has already ended: {job.status}; only a job that has not ended can be cancelled"
        )


class NotQueued(_JobError):
    """The job has left the queue."""

    def __init__(self, job: Job) -> None:
        super().__init__(job, f"job {job.id} is {job.status}; its priority can change only while it is queued")


class NotEnded(_JobError):
    """The job has not ended, or its final status has not reached MLflow yet."""

    def __init__(self, job: Job) -> None:
        if job.status.is_terminal:
            message = f"job {job.id} is {job.status}, but MLflow has not been updated yet; try again in a moment"
        else:
            message = f"job {job.id} is {job.status}; cancel it or wait for its end before you delete it"
        super().__init__(job, message)


class LeaseLost(_JobError):
    """Nothing was written: this supervisor does not (or no longer) hold the lease of this attempt."""

    def __init__(self, job: Job) -> None:
        super().__init__(
            job, f"job {job.id}, attempt {job.attempt}: another supervisor owns it, or the attempt is over"
        )


class Superseded(StoreError):
    """Nothing was written: this supervisor does not (or no longer) hold the lease that allows it to run jobs."""

    def __init__(self) -> None:
        super().__init__("another supervisor has taken over the jobs of this database")


class CancelRequested(_JobError):
    """Nothing was written: a cancel request is recorded, so the job must end through `cancelling` and `cancelled`."""

    def __init__(self, job: Job) -> None:
        super().__init__(job, f"job {job.id} received a cancel request while {job.status}; it ends as cancelled")


class IllegalTransition(_JobError):
    """Nothing was written: the transition table does not allow this change of status for the writer."""

    def __init__(self, job: Job, to: JobStatus) -> None:
        super().__init__(job, f"job {job.id}: {job.status} -> {to} is not allowed by service.states.TRANSITIONS")


class QueueLimit(StoreError):
    """The key that submits a job has too many jobs in the queue."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"this key already has {limit} jobs in the queue, which is its limit; wait until some of them have "
            "started, or cancel some"
        )


class SweepNotFound(StoreError):
    """No sweep has this id."""

    def __init__(self, sweep_id: str) -> None:
        super().__init__(f"no sweep has the id {sweep_id!r}; GET /v1/sweeps lists all sweeps")


class SweepEnded(StoreError):
    """The sweep succeeded or failed and can no longer be cancelled."""

    def __init__(self, sweep_id: str, status: str) -> None:
        super().__init__(f"sweep {sweep_id} has already ended: {status}; only a running sweep can be cancelled")


class SweepNotEnded(StoreError):
    """The sweep is running, or its final status has not reached MLflow yet."""

    def __init__(self, sweep_id: str, status: str) -> None:
        if status == "running":
            message = f"sweep {sweep_id} is running; cancel it or wait for its end before you delete it"
        else:
            message = f"sweep {sweep_id} is {status}, but MLflow has not been updated yet; try again in a moment"
        super().__init__(message)


class KeyUnknown(StoreError):
    """No API key has this id."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"no key has the id {key_id!r}; `pyramidion keys list` shows all keys")
        self.key_id = key_id


class SchemaUnknown(StoreError):
    """The database has a schema of a newer version, or of another application."""

    def __init__(self, found: str, head: str) -> None:
        if found.isdecimal():
            problem = (
                f"the database has schema {found!r}, but this version of pyramidion knows only schemas up to {head!r}"
            )
            remedy = "install the version that created it or a newer one, or choose another database or root"
        else:
            problem = f"the database belongs to another application, whose schema is {found!r}"
            remedy = "name a database of its own in PYRAMIDION_DATABASE_URL"
        super().__init__(f"{problem}; {remedy}")
