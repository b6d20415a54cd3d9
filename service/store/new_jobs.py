"""The rows of a new job, written in the transaction of the caller."""

import secrets
import time

from sqlalchemy import Connection, func, insert, select

from service.principal import Principal
from service.states import JobStatus
from service.store.audit import append_audit
from service.store.dataset_uses import use_dataset
from service.store.errors import QueueLimit
from service.store.event_log import append_status_event
from service.store.records import Job, NewJob
from service.store.rows import JOB_COLUMNS, job_of
from service.store.tables import api_keys, jobs


def insert_job(connection: Connection, new: NewJob, by: Principal) -> Job:
    """Put a job into the queue with its first event and its audit row.

    Raises:
        DatasetNotFound, QuotaExceeded: see `use_dataset`.
        QueueLimit: too many jobs of the submitter's API key are in the queue.
        IntegrityError: the random id is taken.
    """
    _check_queue_limit(connection, by)
    now = round(time.time(), 6)  # the precision of times in REST answers
    values = {
        "id": secrets.token_hex(6),
        "name": new.name,
        "kind": new.kind,
        "config": new.config,
        "status": JobStatus.QUEUED,
        "priority": new.priority,
        "cpus": new.cpus,
        "gpus": new.gpus,
        "num_nodes": new.num_nodes,
        "gpu_type": new.gpu_type,
        "timeout_s": new.timeout_s,
        "retry_of": new.retry_of,
        "created_at": now,
        "not_before": now,
        "attempt": 0,
        "failures": 0,
        "events_offset": 0,
        "tenant": by.tenant if new.tenant is None else new.tenant,
        "key_id": by.key_id,
    }
    job = job_of(connection.execute(insert(jobs).values(values).returning(*JOB_COLUMNS)).one())
    use_dataset(connection, new, job.id, by)
    append_status_event(connection, job, None)
    action = "job.submit" if new.retry_of is None else "job.retry"
    append_audit(connection, by, action, job.id, tenant=job.tenant, detail=new.retry_of)
    return job


def _check_queue_limit(connection: Connection, by: Principal) -> None:
    limit = by.limits.queued_jobs
    if by.key_id is None or limit is None:
        return
    # The lock of the key's row lets its submissions through one after another, so that none exceeds the limit.
    connection.execute(select(api_keys.c.id).where(api_keys.c.id == by.key_id).with_for_update())
    queued = select(func.count()).where(jobs.c.key_id == by.key_id, jobs.c.status == JobStatus.QUEUED)
    if connection.execute(queued).scalar_one() >= limit:
        raise QueueLimit(limit)
