"""Rows of the database as values, and the one function that changes a job's row."""

from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select, update

from service.states import JobStatus, Writer, may_move
from service.store import tables
from service.store.errors import IllegalTransition, NotFound
from service.store.event_log import append_status_event
from service.store.records import Job

JOB_COLUMNS = tuple(tables.jobs.c[field.name] for field in fields(Job))
"""All columns except the document, which may be long."""


def job_of(row: Row[Any]) -> Job:
    """Return the job of a row of `JOB_COLUMNS`."""
    values = row._asdict()
    return Job(**{**values, "status": JobStatus(values["status"])})


def find_locked(connection: Connection, *conditions: ColumnElement[bool], skip_locked: bool = False) -> Job | None:
    """Return the job that meets the conditions, locked until the transaction ends; None if no job meets them.

    Args:
        skip_locked: return None for a job that another transaction has locked, instead of waiting for it.
    """
    # SQLite omits FOR UPDATE: there the transaction itself holds the only write lock.
    query = select(*JOB_COLUMNS).where(*conditions).with_for_update(skip_locked=skip_locked)
    row = connection.execute(query).one_or_none()
    return None if row is None else job_of(row)


def owned_by(tenant: str | None) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions for jobs of a tenant; none for all tenants (None)."""
    return () if tenant is None else (tables.jobs.c.tenant == tenant,)


def locked_job(connection: Connection, job_id: str, tenant: str | None = None) -> Job:
    """Return a job, locked until the transaction ends.

    Args:
        tenant: the owner that the job must have; None for any.

    Raises:
        NotFound: no job of the tenant has this id.
    """
    job = find_locked(connection, tables.jobs.c.id == job_id, *owned_by(tenant))
    if job is None:
        raise NotFound(job_id)
    return job


def update_job(connection: Connection, job: Job, **values: Any) -> Job:
    """Write values to a locked job and return the job with them."""
    query = update(tables.jobs).where(tables.jobs.c.id == job.id).values(values)
    return job_of(connection.execute(query.returning(*JOB_COLUMNS)).one())


def change_status(
    connection: Connection, job: Job, to: JobStatus, writer: Writer, message: str | None = None, **values: Any
) -> Job:
    """Move a locked job to another status, write other values with it, and record the event of the change.

    All writers change the status through this function.

    Raises:
        IllegalTransition: the transition table does not allow it for this writer.
    """
    if not may_move(writer, job.status, to):
        raise IllegalTransition(job, to)
    changed = update_job(connection, job, status=to, **values)
    append_status_event(connection, changed, job.status, message)
    return changed
