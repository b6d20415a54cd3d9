"""Idempotency keys: the job that an earlier request with the same key has created."""

from sqlalchemy import Connection, insert, select

from service.store.errors import KeyReused
from service.store.records import Job
from service.store.rows import JOB_COLUMNS, job_of
from service.store.tables import idempotency_keys, jobs


def job_of_key(connection: Connection, tenant: str, key: str, body_hash: str) -> Job | None:
    """Return the job that a key of a tenant has created; None if the key is new.

    Raises:
        KeyReused: the key belongs to a request with another `body_hash`.
    """
    known = idempotency_keys.c
    row = connection.execute(
        select(known.body_hash, known.job_id).where(known.tenant == tenant, known.key == key)
    ).one_or_none()
    if row is None:
        return None
    if row.body_hash != body_hash:
        raise KeyReused(key)
    found = connection.execute(select(*JOB_COLUMNS).where(jobs.c.id == row.job_id)).one_or_none()
    return None if found is None else job_of(found)


def remember_key(connection: Connection, tenant: str, key: str, body_hash: str, job: Job) -> None:
    """Record a key in the transaction that creates its job."""
    row = {"tenant": tenant, "key": key, "body_hash": body_hash, "job_id": job.id, "created_at": job.created_at}
    connection.execute(insert(idempotency_keys).values(row))
