"""What the store refuses, and why.

StoreError
├── NotFound            no job has this id
├── KeyReused           an idempotency key came back with another body
├── AlreadyEnded        a job that has ended is not cancelled
├── NotQueued           only a queued job changes its place
├── NotEnded            only a job that is over altogether is deleted
├── LeaseLost           another supervisor owns the job, or it is no longer active
├── CancelRequested     a wish to cancel came before the end: the job ends as cancelled
├── IllegalTransition   the table of `service.states` does not have it
└── SchemaUnknown       the database was made by a newer version

DatabaseUnavailable     the database cannot be opened, read or written now: its disk is full, or another holds it
"""

from sqlalchemy.exc import OperationalError as DatabaseUnavailable

from service.states import JobStatus
from service.store.records import Job

__all__ = ["DatabaseUnavailable"]


class StoreError(Exception):
    """Base of all that the store refuses."""


class NotFound(StoreError):
    """No job has this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {job_id!r}; GET /v1/jobs lists all")
        self.job_id = job_id


class KeyReused(StoreError):
    """The key belongs to a request with another body."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"Idempotency-Key {key!r} was used for another request; send the same body again, or choose a new key"
        )
        self.key = key


class _JobError(StoreError):
    """What is refused because of the job's state; `job` is the job as it was then."""

    def __init__(self, job: Job, message: str) -> None:
        super().__init__(message)
        self.job = job


class AlreadyEnded(_JobError):
    """The job has ended by itself: there is nothing to cancel."""

    def __init__(self, job: Job) -> None:
        super().__init__(job, f"job {job.id} has ended already: {job.status}; only a job that has not is cancelled")


class NotQueued(_JobError):
    """The job has left the queue."""

    def __init__(self, job: Job) -> None:
        super().__init__(job, f"job {job.id} is {job.status}; its priority counts only while it is queued")


class NotEnded(_JobError):
    """The job goes on, or its end is not told to MLflow yet."""

    def __init__(self, job: Job) -> None:
        if job.status.is_terminal:
            message = f"MLflow has not been told yet that job {job.id} is {job.status}; try again in a moment"
        else:
            message = f"job {job.id} is {job.status}; cancel it, or wait for its end, before it is deleted"
        super().__init__(job, message)


class LeaseLost(_JobError):
    """Nothing was written: the job is not this supervisor's in this attempt (any more)."""

    def __init__(self, job: Job) -> None:
        super().__init__(
            job, f"job {job.id}, attempt {job.attempt}: another supervisor owns it, or the attempt is over"
        )


class CancelRequested(_JobError):
    """Nothing was written: a wish to cancel is recorded, so that the job ends by `cancelling` and `cancelled`."""

    def __init__(self, job: Job) -> None:
        super().__init__(job, f"job {job.id} was asked to be cancelled while {job.status}; it ends as cancelled")


class IllegalTransition(_JobError):
    """Nothing was written: no supervisor takes a job from that state to that one."""

    def __init__(self, job: Job, to: JobStatus) -> None:
        super().__init__(job, f"job {job.id}: {job.status} -> {to} is not in service.states.TRANSITIONS")


class SchemaUnknown(StoreError):
    """The database has a schema that this version does not know."""

    def __init__(self, found: str, head: str) -> None:
        super().__init__(
            f"the database has schema {found!r}, this version of pyramidion knows up to {head!r}; "
            "start the version that made it, or a newer one, or name another PYRAMIDION_ROOT"
        )
