"""What a supervisor alone may write: the life of the jobs whose lease it holds."""

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Select, func, insert, select, update

from pipelines.run_folder.events import TrainerEvent, parse_event
from service.states import ACTIVE, TERMINAL, TRANSITIONS, FailureKind, JobStatus, Writer
from service.store.database import writing
from service.store.errors import CancelRequested, IllegalTransition, LeaseLost
from service.store.records import Job, Outcome
from service.store.rows import JOB_COLUMNS, add_status_event, job_of
from service.store.tables import attempts, events, jobs


class LeasedStore:
    """Writes as one supervisor, `owner`.

    Each write holds only for a job that is active, in the attempt that the caller knows, and leased to `owner`; else
    it raises `LeaseLost` and nothing is written. Of what the caller's `Job` says, only id and attempt count.
    """

    def __init__(self, engine: Engine, owner: str) -> None:
        self._engine = engine
        self._owner = owner

    def adopt_all(self) -> list[Job]:
        """Take the lease of all active jobs from whoever had it, and return them, oldest first."""
        query = update(jobs).where(jobs.c.status.in_(sorted(ACTIVE))).values(lease_owner=self._owner)
        with writing(self._engine) as connection:
            adopted = [job_of(row) for row in connection.execute(query.returning(*JOB_COLUMNS))]
        return sorted(adopted, key=lambda job: job.number)

    def queued(self, limit: int | None = None) -> list[Job]:
        """Return the front of the queue: the highest priority first, then the oldest; also those that must still wait.

        Each 10,000 of them take about 0.2 s.
        """
        query = select(*JOB_COLUMNS).where(jobs.c.status == JobStatus.QUEUED)
        return self._jobs(query.order_by(jobs.c.priority.desc(), jobs.c.number).limit(limit))

    def active(self) -> list[Job]:
        """Return all active jobs that are leased to this supervisor, oldest first."""
        query = select(*JOB_COLUMNS).where(jobs.c.status.in_(sorted(ACTIVE)), jobs.c.lease_owner == self._owner)
        return self._jobs(query.order_by(jobs.c.number))

    def claim(self, job_id: str, gpu_ids: Sequence[str]) -> Job | None:
        """Start the next attempt of a queued job and hold its lease; None: it is no longer queued."""
        now = time.time()
        query = (
            update(jobs)
            .where(jobs.c.id == job_id, jobs.c.status == JobStatus.QUEUED)
            .values(
                status=JobStatus.STARTING,
                stage=None,
                attempt=jobs.c.attempt + 1,
                lease_owner=self._owner,
                started_at=func.coalesce(jobs.c.started_at, now),
            )
        )
        with writing(self._engine) as connection:
            row = connection.execute(query.returning(*JOB_COLUMNS)).one_or_none()
            if row is None:
                return None
            job = job_of(row)
            attempt = {"job_id": job.id, "number": job.attempt, "lease_owner": self._owner, "started_at": now}
            connection.execute(insert(attempts).values(**attempt, gpu_ids=list(gpu_ids)))
            add_status_event(connection, job, JobStatus.QUEUED)
        return job

    def move(
        self, job: Job, to: JobStatus, *, message: str | None = None, failure: tuple[FailureKind, str] | None = None
    ) -> Job:
        """Take a job to another state, but for the queue (`requeue`); a terminal one ends its lease.

        Raises:
            LeaseLost: the job is another supervisor's.
            CancelRequested: it would succeed or fail, but a wish to cancel was recorded before.
            IllegalTransition: the transition table does not have it.
        """
        if (failure is not None) != (to is JobStatus.FAILED):
            raise ValueError(f"job {job.id} -> {to}: a job that fails, and no other, has a failure (kind, message)")
        values: dict[str, Any] = {"status": to}
        if to.is_terminal:
            values |= {"finished_at": time.time(), "stage": None, "lease_owner": None}
        if failure is not None:
            values |= {"failure_kind": failure[0], "failure_message": failure[1]}
            message = failure[1] if message is None else message
        with writing(self._engine) as connection:
            before = self._held(connection, job)
            if to is JobStatus.QUEUED:
                raise IllegalTransition(before, to)
            return self._change(connection, before, values, message)

    def requeue(self, job: Job, *, not_before: float, spends_retry: bool, message: str) -> Job:
        """Put a job back into the queue for another attempt, and end its lease.

        Raises:
            LeaseLost: the job is another supervisor's.
            CancelRequested: a wish to cancel was recorded before.
            IllegalTransition: the job is being cancelled.
        """
        with writing(self._engine) as connection:
            before = self._held(connection, job)
            values = {
                "status": JobStatus.QUEUED,
                "stage": None,
                "lease_owner": None,
                "not_before": not_before,
                "failures": before.failures + spends_retry,
            }
            return self._change(connection, before, values, message)

    def end_attempt(self, job: Job, outcome: Outcome, exit_code: int | None = None, message: str | None = None) -> None:
        """Record how the current attempt has ended; to be called before the job leaves its active states.

        Raises:
            LeaseLost: the job is another supervisor's, or has ended.
        """
        with writing(self._engine) as connection:
            self._held(connection, job)
            connection.execute(
                update(attempts)
                .where(attempts.c.job_id == job.id, attempts.c.number == job.attempt)
                .values(
                    outcome=outcome,
                    exit_code=exit_code,
                    message=message,
                    ended_at=func.coalesce(attempts.c.ended_at, time.time()),
                )
            )

    def record_events(self, job: Job, events_: Sequence[Any], offset: int) -> Job:
        """Append lines of events.jsonl, parsed, and set what they say of the job: progress, stage, `events_offset`.

        Lines that are no events are left out.

        Raises:
            LeaseLost: the job is another supervisor's.
            ValueError: `job.events_offset` is not what is recorded, so that lines would be doubled or lost.
        """
        rows = [_row(job, event) for event in map(parse_event, events_) if event is not None]
        values: dict[str, Any] = {"events_offset": offset}
        for row in rows:
            if row["kind"] == "progress":
                values["progress"] = {**row["data"], "epoch": row["epoch"], "step": row["step"]}
            elif row["kind"] == "stage":
                values["stage"] = str(row["data"].get("stage"))[:32]
        with writing(self._engine) as connection:
            held = self._held(connection, job)
            if held.events_offset != job.events_offset:
                raise ValueError(
                    f"job {job.id}: events were read from byte {job.events_offset}, but are recorded up to "
                    f"{held.events_offset}; read on from there, with the job as the store has it"
                )
            if rows:
                connection.execute(insert(events), rows)
            return self._update(connection, held, values)

    def set_mlflow_run(self, job: Job, run_id: str) -> Job:
        """Record the job's MLflow run, once made and reused by all its attempts.

        Raises:
            LeaseLost: the job is another supervisor's.
        """
        with writing(self._engine) as connection:
            return self._update(connection, self._held(connection, job), {"mlflow_run_id": run_id})

    def unsettled(self) -> list[Job]:
        """Return ended jobs whose MLflow run has not got its final status yet, oldest first."""
        # Not by status: SQLite would rather walk over all jobs that have ended than take the index made for this.
        run = jobs.c.mlflow_run_id.is_not(None) & jobs.c.mlflow_status.is_(None)
        query = select(*JOB_COLUMNS).where(run, jobs.c.finished_at.is_not(None))
        return self._jobs(query.order_by(jobs.c.number))

    def settle(self, job_id: str, status: str) -> None:
        """Record the final status that MLflow was told; only of a job that has ended."""
        query = update(jobs).where(jobs.c.id == job_id, jobs.c.status.in_(sorted(TERMINAL)))
        with writing(self._engine) as connection:
            connection.execute(query.values(mlflow_status=status))

    def gpu_ids_in_use(self) -> set[str]:
        """Return the GPUs of all active jobs, whoever holds their leases."""
        query = (
            select(attempts.c.gpu_ids)
            .join_from(jobs, attempts, (attempts.c.job_id == jobs.c.id) & (attempts.c.number == jobs.c.attempt))
            .where(jobs.c.status.in_(sorted(ACTIVE)))
        )
        with self._engine.connect() as connection:
            return {gpu_id for row in connection.execute(query) for gpu_id in row.gpu_ids}

    def _jobs(self, query: Select[Any]) -> list[Job]:
        with self._engine.connect() as connection:
            return [job_of(row) for row in connection.execute(query)]

    def _fence(self, job: Job) -> tuple[ColumnElement[bool], ...]:
        return (
            jobs.c.id == job.id,
            jobs.c.attempt == job.attempt,
            jobs.c.lease_owner == self._owner,
            jobs.c.status.in_(sorted(ACTIVE)),
        )

    def _held(self, connection: Connection, job: Job) -> Job:
        """Return the job as it is now, locked until the transaction ends."""
        row = connection.execute(select(*JOB_COLUMNS).where(*self._fence(job)).with_for_update()).one_or_none()
        if row is None:
            raise LeaseLost(job)
        return job_of(row)

    def _change(self, connection: Connection, before: Job, values: dict[str, Any], message: str | None) -> Job:
        to: JobStatus = values["status"]
        if TRANSITIONS.get((before.status, to)) is not Writer.SUPERVISOR:
            raise IllegalTransition(before, to)
        if before.cancel_requested_at is not None and to in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.QUEUED):
            raise CancelRequested(before)
        job = self._update(connection, before, values)
        add_status_event(connection, job, before.status, message)
        return job

    def _update(self, connection: Connection, held: Job, values: dict[str, Any]) -> Job:
        query = update(jobs).where(*self._fence(held)).values(values).returning(*JOB_COLUMNS)
        row = connection.execute(query).one_or_none()
        if row is None:
            raise LeaseLost(held)
        return job_of(row)


def _row(job: Job, event: TrainerEvent) -> dict[str, Any]:
    return {"job_id": job.id, "attempt": job.attempt, **event.model_dump()}
