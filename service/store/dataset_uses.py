"""The versions of data sets that jobs use, written in the transactions that add and delete the jobs."""

from sqlalchemy import Connection, delete, exists, insert, select, update

from service.principal import Principal
from service.store.dataset_records import DatasetStatus, DatasetVersion
from service.store.dataset_rows import COLUMNS, insert_version, locked_version, update_version, version_of
from service.store.errors import DatasetNotFound
from service.store.records import NewJob
from service.store.tables import dataset_uses, dataset_versions, jobs

IS_BEING_CHECKED = exists(
    select(dataset_uses.c.job_id)
    .join(dataset_versions, dataset_versions.c.id == dataset_uses.c.dataset_id)
    .where(dataset_uses.c.job_id == jobs.c.id, dataset_versions.c.status == DatasetStatus.CHECKING)
)
"""The condition that the data set of a job is being checked, so that the job cannot start yet."""


def use_dataset(connection: Connection, new: NewJob, job_id: str, by: Principal) -> None:
    """Record the version that a new job uses, if any; images that are uploaded with the job become a version.

    Raises:
        DatasetNotFound: the version is not ready, or is no longer ready.
        QuotaExceeded: the uploaded images are too large.
    """
    if new.images is not None:
        dataset_id = insert_version(connection, new.images.version, by, new.images.quota_bytes).id
    elif new.dataset_id is not None:
        dataset_id = new.dataset_id
        found = locked_version(connection, dataset_versions.c.id == dataset_id)
        # A retried job waits, as the first one did, until its images are extracted.
        usable = (DatasetStatus.READY, *((DatasetStatus.CHECKING,) if found is not None and found.of_jobs else ()))
        if found is None or found.status not in usable:
            raise DatasetNotFound(found.name if found else dataset_id, found.version if found else None)
    else:
        return
    connection.execute(insert(dataset_uses).values(job_id=job_id, dataset_id=dataset_id))


def release_dataset(connection: Connection, job_id: str, mlflow_run_id: str | None) -> None:
    """Record that a job was deleted.

    Its models still need the version. Images that were uploaded with jobs are deleted with the last of these jobs.
    """
    of_job = dataset_uses.c.job_id == job_id
    if mlflow_run_id is not None:
        connection.execute(update(dataset_uses).where(of_job).values(mlflow_run_id=mlflow_run_id))
        return
    dataset_id = connection.execute(select(dataset_uses.c.dataset_id).where(of_job)).scalar_one_or_none()
    if dataset_id is None:
        return
    found = locked_version(connection, dataset_versions.c.id == dataset_id)
    connection.execute(delete(dataset_uses).where(of_job))
    others = select(dataset_uses.c.job_id).where(dataset_uses.c.dataset_id == dataset_id).limit(1)
    if found is not None and found.of_jobs and connection.execute(others).one_or_none() is None:
        update_version(connection, found, status=DatasetStatus.DELETING, check_owner=None)


def dataset_of_job(connection: Connection, job_id: str) -> DatasetVersion | None:
    """Return the version that a job uses, if any."""
    query = select(*COLUMNS).join(dataset_uses, dataset_uses.c.dataset_id == dataset_versions.c.id)
    row = connection.execute(query.where(dataset_uses.c.job_id == job_id)).one_or_none()
    return None if row is None else version_of(row)
