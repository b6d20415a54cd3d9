"""Objects of run folders in storage that no attempt needs any more."""

from service.run_sync.commits import JobObjects, stored_jobs
from service.storage.objects import ObjectStore
from service.store.errors import NotFound
from service.store.jobs import JobStore


def delete_objects_of_ended_jobs(store: ObjectStore, jobs: JobStore) -> int:
    """Delete the objects of jobs that have ended or were deleted, and return the number of these jobs.

    Their files are in the run folders of the service. A job in one of these states never starts another attempt.

    Raises:
        StorageError: the storage does not answer; the next run continues.
        StoreUnavailable: the database cannot be read at the moment.
    """
    ended = [job_id for job_id in sorted(stored_jobs(store)) if _has_ended(jobs, job_id)]
    for job_id in ended:
        JobObjects(store, job_id).delete_all()
    return len(ended)


def _has_ended(jobs: JobStore, job_id: str) -> bool:
    try:
        return jobs.get(job_id).status.is_terminal
    except NotFound:
        return True
