"""Jobs as the API reads and writes them."""

import time
from collections.abc import Collection
from typing import Any

from sqlalchemy import Engine, Select, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from service.principal import LOCAL_USER, Principal
from service.states import ACTIVE, JobStatus, Writer, may_move
from service.store.audit import append_audit
from service.store.database import reading, writing
from service.store.dataset_uses import release_dataset
from service.store.errors import AlreadyEnded, NotEnded, NotFound, NotQueued
from service.store.idempotency import job_of_key, remember_key
from service.store.new_jobs import insert_job
from service.store.pages import newest_jobs
from service.store.records import AttemptRecord, Event, Job, NewJob, SupervisorLease
from service.store.rows import JOB_COLUMNS, change_status, job_of, locked_job, owned_by, update_job
from service.store.supervisor_lease import find_lease
from service.store.sweep_records import SweepTrial
from service.store.sweep_rows import trial_of_job
from service.store.tables import attempts, events, jobs, write_probes

_TRIES = 5
_PROBE = "api"


class JobStore:
    """Reads everything; writes what `service.states.Writer.API` may write.

    Events have one total order, see `service.store.event_log`. Every method raises StoreUnavailable while the
    database cannot be used.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def submit(
        self, new: NewJob, key: str | None = None, body_hash: str | None = None, by: Principal = LOCAL_USER
    ) -> tuple[Job, bool]:
        """Put a job into the queue and return it with True; for a known `key`, return the earlier job with False.

        The job, its first event, the key and the audit row are written together or not at all. Keys of different
        tenants are independent.

        Raises:
            KeyReused: the key belongs to a request with another `body_hash`.
            DatasetNotFound, QuotaExceeded: see `use_dataset`.
            QueueLimit: too many jobs of the submitter's API key are in the queue.
        """
        if (key is None) != (body_hash is None):
            raise ValueError("key and body_hash belong together: pass both or neither")
        for _ in range(_TRIES - 1):
            try:
                return self._submit(new, key, body_hash, by)
            except IntegrityError:  # the random id is taken; on PostgreSQL also: the same key at the same time
                continue
        return self._submit(new, key, body_hash, by)

    def _submit(self, new: NewJob, key: str | None, body_hash: str | None, by: Principal) -> tuple[Job, bool]:
        with writing(self._engine) as connection:
            if (
                key is not None
                and body_hash is not None
                and (earlier := job_of_key(connection, by.tenant, key, body_hash))
            ):
                return earlier, False
            job = insert_job(connection, new, by)
            if key is not None and body_hash is not None:
                remember_key(connection, by.tenant, key, body_hash, job)
        return job, True

    def submitted(self, key: str, body_hash: str, by: Principal = LOCAL_USER) -> Job | None:
        """Return the job that a key has created, as `submit` would; None if the key is new. Raises KeyReused."""
        with reading(self._engine) as connection:
            return job_of_key(connection, by.tenant, key, body_hash)

    def request_cancel(self, job_id: str, by: Principal = LOCAL_USER) -> Job:
        """Cancel a queued job, or record a cancel request for an active one; repeating it changes nothing.

        Raises:
            NotFound: no job has this id.
            AlreadyEnded: it has succeeded or failed.
        """
        with writing(self._engine) as connection:
            job = locked_job(connection, job_id, by.visible_tenant)
            now = time.time()
            if may_move(Writer.API, job.status, JobStatus.CANCELLED):
                append_audit(connection, by, "job.cancel", job.id, tenant=job.tenant)
                return change_status(
                    connection, job, JobStatus.CANCELLED, Writer.API, cancel_requested_at=now, finished_at=now
                )
            if job.status.is_terminal and job.status is not JobStatus.CANCELLED:
                raise AlreadyEnded(job)
            if job.status.is_active and job.cancel_requested_at is None:
                append_audit(connection, by, "job.cancel", job.id, tenant=job.tenant)
                return update_job(connection, job, cancel_requested_at=now)
            return job

    def set_priority(self, job_id: str, priority: int, by: Principal = LOCAL_USER) -> Job:
        """Change the priority of a queued job.

        Raises:
            NotFound: no job has this id.
            NotQueued: it has left the queue.
        """
        with writing(self._engine) as connection:
            job = locked_job(connection, job_id, by.visible_tenant)
            if job.status is not JobStatus.QUEUED:
                raise NotQueued(job)
            detail = f"{job.priority} -> {priority}"
            append_audit(connection, by, "job.priority", job.id, tenant=job.tenant, detail=detail)
            return update_job(connection, job, priority=priority)

    def delete(self, job_id: str, by: Principal = LOCAL_USER) -> None:
        """Delete a settled job with its attempts, events and keys.

        Raises:
            NotFound: no job has this id.
            NotEnded: it is not settled.
        """
        with writing(self._engine) as connection:
            job = locked_job(connection, job_id, by.visible_tenant)
            if not job.is_settled:
                raise NotEnded(job)
            release_dataset(connection, job_id, job.mlflow_run_id)
            append_audit(connection, by, "job.delete", job.id, tenant=job.tenant)
            connection.execute(delete(jobs).where(jobs.c.id == job_id))

    def check_writable(self) -> None:
        """Write to the disk of the database; raise StoreUnavailable if that is impossible."""
        query = update(write_probes).where(write_probes.c.name == _PROBE)
        with writing(self._engine) as connection:
            if not connection.execute(query.values(number=write_probes.c.number + 1)).rowcount:
                connection.execute(insert(write_probes).values(name=_PROBE, number=1))

    def supervisor_lease(self) -> SupervisorLease | None:
        """Return the lease of the active supervisor; None if there has never been one."""
        with reading(self._engine) as connection:
            return find_lease(connection)

    def get(self, job_id: str, tenant: str | None = None) -> Job:
        """Return a job.

        Args:
            tenant: the owner that the job must have; None for any.

        Raises:
            NotFound: no job of the tenant has this id.
        """
        found = self._jobs(select(*JOB_COLUMNS).where(jobs.c.id == job_id, *owned_by(tenant)))
        if not found:
            raise NotFound(job_id)
        return found[0]

    def config(self, job_id: str) -> dict[str, Any]:
        """Return the document of a job as it was submitted.

        Raises:
            NotFound: no job has this id.
        """
        with reading(self._engine) as connection:
            row = connection.execute(select(jobs.c.config).where(jobs.c.id == job_id)).one_or_none()
        if row is None:
            raise NotFound(job_id)
        return dict(row.config)

    def attempts(self, job_id: str) -> list[AttemptRecord]:
        """Return the attempts of a job, oldest first."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.number))
            return [AttemptRecord(**{**row._asdict(), "gpu_ids": tuple(row.gpu_ids)}) for row in rows]

    def trial(self, job_id: str) -> SweepTrial | None:
        """Return the trial of a sweep that a job runs; None for other jobs."""
        with reading(self._engine) as connection:
            return trial_of_job(connection, job_id)

    def page(
        self,
        *,
        statuses: Collection[JobStatus] = (),
        kinds: Collection[str] = (),
        name: str | None = None,
        created_after: float | None = None,
        created_before: float | None = None,
        before_number: int | None = None,
        limit: int = 50,
        tenant: str | None = None,
    ) -> list[Job]:
        """Return the jobs that match, newest first; the last one's `number` is the next page's `before_number`.

        Both times are exclusive; empty `statuses` and `kinds` match any, and no tenant matches any owner.
        """
        with reading(self._engine) as connection:
            return newest_jobs(
                connection,
                statuses=statuses,
                kinds=kinds,
                name=name,
                created_after=created_after,
                created_before=created_before,
                before_number=before_number,
                limit=limit,
                tenant=tenant,
            )

    def jobs_ahead(self, job: Job) -> int:
        """Return the number of queued jobs before `job`."""
        higher = jobs.c.priority > job.priority
        older = and_(jobs.c.priority == job.priority, jobs.c.number < job.number)
        query = select(func.count()).select_from(jobs).where(jobs.c.status == JobStatus.QUEUED, or_(higher, older))
        with reading(self._engine) as connection:
            return connection.execute(query).scalar_one()

    def counts(self) -> dict[JobStatus, int]:
        """Return the number of jobs in each state, 0 included."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(jobs.c.status, func.count()).group_by(jobs.c.status)).all()
        return dict.fromkeys(JobStatus, 0) | {JobStatus(status): number for status, number in rows}

    def oldest_queued_at(self) -> float | None:
        """Return the time when the oldest queued job was submitted; None if the queue is empty."""
        query = select(jobs.c.created_at).where(jobs.c.status == JobStatus.QUEUED).order_by(jobs.c.number).limit(1)
        with reading(self._engine) as connection:
            return connection.execute(query).scalar_one_or_none()

    def slots_in_use(self) -> tuple[int, int]:
        """Return the cores and GPUs of all active jobs."""
        sums = [func.coalesce(func.sum(column * jobs.c.num_nodes), 0) for column in (jobs.c.cpus, jobs.c.gpus)]
        with reading(self._engine) as connection:
            cpus, gpus = connection.execute(select(*sums).where(jobs.c.status.in_(sorted(ACTIVE)))).one()
        return int(cpus), int(gpus)

    def holders(self) -> list[Job]:
        """Return all active jobs, oldest first."""
        return self._jobs(select(*JOB_COLUMNS).where(jobs.c.status.in_(sorted(ACTIVE))).order_by(jobs.c.number))

    def job_of_run(self, mlflow_run_id: str) -> str | None:
        """Return the id of the job that owns an MLflow run; None if no job does."""
        with reading(self._engine) as connection:
            return connection.execute(
                select(jobs.c.id).where(jobs.c.mlflow_run_id == mlflow_run_id).limit(1)
            ).scalar_one_or_none()

    def events(self, job_id: str, after: int, limit: int = 500) -> list[Event]:
        """Return the first events of a job whose `seq` is above `after`, in order."""
        query = select(events).where(events.c.job_id == job_id, events.c.seq > after).order_by(events.c.seq)
        with reading(self._engine) as connection:
            return [Event(**row._asdict()) for row in connection.execute(query.limit(limit))]

    def newest_seq(self, after: int) -> dict[str, int]:
        """Return the highest `seq` of each job that has an event above `after`, by job id."""
        # Without GROUP BY, for which SQLite scans the whole index by job, however few rows are above `after`.
        query = select(events.c.job_id, events.c.seq).where(events.c.seq > after).order_by(events.c.seq)
        with reading(self._engine) as connection:
            return {row.job_id: row.seq for row in connection.execute(query)}

    def last_seq(self) -> int:
        """Return the highest `seq` of all events; 0 if the log is empty."""
        with reading(self._engine) as connection:
            return connection.execute(select(func.max(events.c.seq))).scalar_one() or 0

    def _jobs(self, query: Select[Any]) -> list[Job]:
        with reading(self._engine) as connection:
            return [job_of(row) for row in connection.execute(query)]
