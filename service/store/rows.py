"""What reading and writing have in common: rows become values, changes of status become events."""

import time
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from pipelines.run_folder.events import StatusData
from service.states import JobStatus
from service.store import tables
from service.store.errors import NotFound
from service.store.records import Job

JOB_COLUMNS = tuple(tables.jobs.c[field.name] for field in fields(Job))
"""All but the document, which may be long."""


def job_of(row: Row[Any]) -> Job:
    """Return the job of a row of `JOB_COLUMNS`."""
    values = row._asdict()
    return Job(**{**values, "status": JobStatus(values["status"])})


def locked_job(connection: Connection, job_id: str) -> Job:
    """Return a job that no other transaction changes before this one ends.

    Raises:
        NotFound: no job has this id.
    """
    # SQLite leaves FOR UPDATE out: there the transaction itself holds the only write lock.
    row = connection.execute(select(*JOB_COLUMNS).where(tables.jobs.c.id == job_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(job_id)
    return job_of(row)


def add_status_event(connection: Connection, job: Job, before: JobStatus | None, message: str | None = None) -> None:
    """Append the event that tells that `job` has come from `before` to its status."""
    data = StatusData(before=before, to=job.status, attempt=job.attempt)
    connection.execute(
        insert(tables.events).values(
            job_id=job.id,
            attempt=job.attempt,
            time=time.time(),
            kind="status",
            epoch=0,
            step=0,
            data=(data if message is None else data.model_copy(update={"message": message})).to_data(),
        )
    )
