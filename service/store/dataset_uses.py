"""Which job uses which version of a data set, written in the transactions that add and delete jobs."""

from sqlalchemy import Connection, delete, insert, select, update

from service.store.dataset_records import SHORT_DIGITS, DatasetStatus
from service.store.errors import DatasetNotFound
from service.store.tables import dataset_uses, dataset_versions


def use_dataset(connection: Connection, dataset_id: str | None, job_id: str) -> None:
    """Record that a job uses a version, if any, in the transaction that adds the job.

    Raises:
        DatasetNotFound: the version is not ready, or is no longer ready.
    """
    if dataset_id is None:
        return
    row = dataset_versions.c
    query = select(row.name, row.sha256, row.status).where(row.id == dataset_id).with_for_update()
    found = connection.execute(query).one_or_none()
    if found is None or found.status != DatasetStatus.READY:
        raise DatasetNotFound(found.name if found else dataset_id, found.sha256[:SHORT_DIGITS] if found else None)
    connection.execute(insert(dataset_uses).values(job_id=job_id, dataset_id=dataset_id))


def release_dataset(connection: Connection, job_id: str, mlflow_run_id: str | None) -> None:
    """Record that a job was deleted, in the transaction that deletes it; its models still need the version."""
    of_job = dataset_uses.c.job_id == job_id
    if mlflow_run_id is None:
        connection.execute(delete(dataset_uses).where(of_job))
    else:
        connection.execute(update(dataset_uses).where(of_job).values(mlflow_run_id=mlflow_run_id))
