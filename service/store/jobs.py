"""What the API may read and write of jobs."""

import secrets
import time
from collections.abc import Collection
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Select,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from service.states import ACTIVE, JobStatus
from service.store.database import writing
from service.store.errors import AlreadyEnded, KeyReused, NotEnded, NotFound, NotQueued
from service.store.pages import newest_jobs
from service.store.records import AttemptRecord, Event, Job, NewJob
from service.store.rows import JOB_COLUMNS, add_status_event, job_of, locked_job
from service.store.tables import attempts, events, idempotency_keys, jobs

_TRIES = 5


class JobStore:
    """Reads everything; writes what `service.states.Writer.API` may."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def submit(self, new: NewJob, key: str | None = None, body_hash: str | None = None) -> tuple[Job, bool]:
        """Put a job into the queue and return it with True; with a `key` that is known, the earlier job with False.

        Job, its first event and the key are written together, or not at all.

        Raises:
            KeyReused: the key belongs to a request with another `body_hash`.
        """
        if (key is None) != (body_hash is None):
            raise ValueError("key and body_hash belong together: give both, or neither")
        for _ in range(_TRIES - 1):
            try:
                return self._submit(new, key, body_hash)
            except IntegrityError:  # a random id that is taken; on PostgreSQL also a key that came twice at once
                continue
        return self._submit(new, key, body_hash)

    def _submit(self, new: NewJob, key: str | None, body_hash: str | None) -> tuple[Job, bool]:
        with writing(self._engine) as connection:
            if key is not None and (earlier := _job_of_key(connection, key, body_hash)):
                return earlier, False
            now = round(time.time(), 6)  # as exact as the time that REST tells
            values = {
                "id": secrets.token_hex(6),
                "name": new.name,
                "config": new.config,
                "status": JobStatus.QUEUED,
                "priority": new.priority,
                "cpus": new.cpus,
                "gpus": new.gpus,
                "timeout_s": new.timeout_s,
                "retry_of": new.retry_of,
                "created_at": now,
                "not_before": now,
                "attempt": 0,
                "failures": 0,
                "events_offset": 0,
            }
            job = job_of(connection.execute(insert(jobs).values(values).returning(*JOB_COLUMNS)).one())
            add_status_event(connection, job, None)
            if key is not None:
                row = {"key": key, "body_hash": body_hash, "job_id": job.id, "created_at": now}
                connection.execute(insert(idempotency_keys).values(row))
        return job, True

    def request_cancel(self, job_id: str) -> Job:
        """Cancel a queued job, record the wish for an active one, and return the job; it may be asked again.

        Raises:
            NotFound: no job has this id.
            AlreadyEnded: it has succeeded or failed.
        """
        with writing(self._engine) as connection:
            job = locked_job(connection, job_id)
            now = time.time()
            if job.status is JobStatus.QUEUED:
                ended = _update(connection, job, status=JobStatus.CANCELLED, cancel_requested_at=now, finished_at=now)
                add_status_event(connection, ended, job.status)
                return ended
            if job.status in (JobStatus.SUCCEEDED, JobStatus.FAILED):
                raise AlreadyEnded(job)
            if job.status.is_active and job.cancel_requested_at is None:
                return _update(connection, job, cancel_requested_at=now)
            return job

    def set_priority(self, job_id: str, priority: int) -> Job:
        """Give a queued job another place in the queue.

        Raises:
            NotFound: no job has this id.
            NotQueued: it has left the queue.
        """
        with writing(self._engine) as connection:
            job = locked_job(connection, job_id)
            if job.status is not JobStatus.QUEUED:
                raise NotQueued(job)
            return _update(connection, job, priority=priority)

    def delete(self, job_id: str) -> None:
        """Forget a job that is over, with its attempts, events and keys.

        Raises:
            NotFound: no job has this id.
            NotEnded: it goes on, or its MLflow run has not got its final status.
        """
        with writing(self._engine) as connection:
            job = locked_job(connection, job_id)
            if not job.status.is_terminal or (job.mlflow_run_id is not None and job.mlflow_status is None):
                raise NotEnded(job)
            connection.execute(delete(jobs).where(jobs.c.id == job_id))

    def check_writable(self) -> None:
        """Begin and end a transaction that writes; what the database has against that is raised."""
        with writing(self._engine):
            pass

    def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            NotFound: no job has this id.
        """
        found = self._jobs(select(*JOB_COLUMNS).where(jobs.c.id == job_id))
        if not found:
            raise NotFound(job_id)
        return found[0]

    def config(self, job_id: str) -> dict[str, Any]:
        """Return the document of a job as it was submitted.

        Raises:
            NotFound: no job has this id.
        """
        with self._engine.connect() as connection:
            row = connection.execute(select(jobs.c.config).where(jobs.c.id == job_id)).one_or_none()
        if row is None:
            raise NotFound(job_id)
        return dict(row.config)

    def attempts(self, job_id: str) -> list[AttemptRecord]:
        """Return the attempts of a job, the first one first."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.number))
            return [AttemptRecord(**{**row._asdict(), "gpu_ids": tuple(row.gpu_ids)}) for row in rows]

    def page(
        self,
        *,
        statuses: Collection[JobStatus] = (),
        name: str | None = None,
        created_after: float | None = None,
        created_before: float | None = None,
        before_number: int | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """Return the newest jobs that fit, newest first; the last one's `number` is the next page's `before_number`.

        Both times are exclusive; `statuses` empty: any.
        """
        with self._engine.connect() as connection:
            return newest_jobs(
                connection,
                statuses=statuses,
                name=name,
                created_after=created_after,
                created_before=created_before,
                before_number=before_number,
                limit=limit,
            )

    def jobs_ahead(self, job: Job) -> int:
        """Return how many queued jobs come before `job`."""
        higher = jobs.c.priority > job.priority
        older = and_(jobs.c.priority == job.priority, jobs.c.number < job.number)
        query = select(func.count()).select_from(jobs).where(jobs.c.status == JobStatus.QUEUED, or_(higher, older))
        with self._engine.connect() as connection:
            return connection.execute(query).scalar_one()

    def counts(self) -> dict[JobStatus, int]:
        """Return the number of jobs in each state, 0 included."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(jobs.c.status, func.count()).group_by(jobs.c.status)).all()
        return dict.fromkeys(JobStatus, 0) | {JobStatus(status): number for status, number in rows}

    def oldest_queued_at(self) -> float | None:
        """Return when the oldest job of the queue was submitted; None: the queue is empty."""
        query = select(jobs.c.created_at).where(jobs.c.status == JobStatus.QUEUED).order_by(jobs.c.number).limit(1)
        with self._engine.connect() as connection:
            return connection.execute(query).scalar_one_or_none()

    def slots_in_use(self) -> tuple[int, int]:
        """Return the cores and GPUs of all active jobs."""
        sums = [func.coalesce(func.sum(column), 0) for column in (jobs.c.cpus, jobs.c.gpus)]
        with self._engine.connect() as connection:
            cpus, gpus = connection.execute(select(*sums).where(jobs.c.status.in_(sorted(ACTIVE)))).one()
        return int(cpus), int(gpus)

    def holders(self) -> list[Job]:
        """Return all active jobs, oldest first."""
        return self._jobs(select(*JOB_COLUMNS).where(jobs.c.status.in_(sorted(ACTIVE))).order_by(jobs.c.number))

    def job_of_run(self, mlflow_run_id: str) -> str | None:
        """Return the id of the job whose MLflow run this is."""
        with self._engine.connect() as connection:
            return connection.execute(
                select(jobs.c.id).where(jobs.c.mlflow_run_id == mlflow_run_id).limit(1)
            ).scalar_one_or_none()

    def events(self, job_id: str, after: int, limit: int = 500) -> list[Event]:
        """Return the first events of a job whose `seq` is above `after`, in order."""
        query = select(events).where(events.c.job_id == job_id, events.c.seq > after).order_by(events.c.seq)
        with self._engine.connect() as connection:
            return [Event(**row._asdict()) for row in connection.execute(query.limit(limit))]

    def newest_seq(self, after: int) -> dict[str, int]:
        """Return the highest `seq` of each job that has an event above `after`, by job id."""
        # Not grouped: SQLite would walk over the whole index by job for that, however few rows are above `after`.
        query = select(events.c.job_id, events.c.seq).where(events.c.seq > after).order_by(events.c.seq)
        with self._engine.connect() as connection:
            return {row.job_id: row.seq for row in connection.execute(query)}

    def last_seq(self) -> int:
        """Return the highest `seq` of all events; 0: there is none."""
        with self._engine.connect() as connection:
            return connection.execute(select(func.max(events.c.seq))).scalar_one() or 0

    def _jobs(self, query: Select[Any]) -> list[Job]:
        with self._engine.connect() as connection:
            return [job_of(row) for row in connection.execute(query)]


def _update(connection: Connection, job: Job, **values: Any) -> Job:
    """Write to a locked job and return it as it is then."""
    query = update(jobs).where(jobs.c.id == job.id, jobs.c.status == job.status).values(values)
    return job_of(connection.execute(query.returning(*JOB_COLUMNS)).one())


def _job_of_key(connection: Connection, key: str, body_hash: str | None) -> Job | None:
    query = select(idempotency_keys.c.body_hash, idempotency_keys.c.job_id).where(idempotency_keys.c.key == key)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    if row.body_hash != body_hash:
        raise KeyReused(key)
    return locked_job(connection, row.job_id)
