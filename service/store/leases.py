"""Jobs as a supervisor writes them: all changes of the jobs whose leases it holds."""

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Select, func, insert, select, update

from pipelines.run_folder.events import TrainerEvent, parse_event
from service.boot_clock import boot_id, uptime_s
from service.resources import CPUS, GPUS, NODES, ResourceCounts, available
from service.states import ACTIVE, TERMINAL, FailureKind, JobStatus, Writer, may_move
from service.store.database import reading, writing
from service.store.dataset_records import DatasetStatus
from service.store.dataset_uses import IS_BEING_CHECKED, dataset_of_job
from service.store.errors import CancelRequested, IllegalTransition, LeaseLost
from service.store.event_log import append_events
from service.store.records import Job, Outcome
from service.store.rows import JOB_COLUMNS, change_status, find_locked, job_of, update_job
from service.store.supervisor_lease import require_lease
from service.store.tables import attempts, jobs

_PREVENTED_BY_CANCEL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.QUEUED})


class LeasedStore:
    """Writes as one supervisor, `owner`.

    Each write requires that the job is active, in the attempt that the caller's `Job` names, and leased to `owner`;
    otherwise it raises `LeaseLost` and writes nothing. Only `id` and `attempt` of the caller's `Job` are used. Jobs are
    claimed and adopted only while `owner` has the lease of `store.supervisor_lease`. Every method raises
    StoreUnavailable while the database cannot be used.

    Args:
        host: name of the host on which this supervisor starts attempts.
        root: the root that contains their run folders.
    """

    def __init__(self, engine: Engine, owner: str, host: str | None = None, root: str | None = None) -> None:
        self._engine = engine
        self._owner = owner
        self._place = {"host": host, "root": root}

    def adopt_all(self) -> list[Job]:
        """Take over the leases of all active jobs, and return these jobs, oldest first.

        Raises:
            Superseded: another supervisor has the lease.
        """
        query = update(jobs).where(jobs.c.status.in_(sorted(ACTIVE))).values(lease_owner=self._owner)
        with writing(self._engine) as connection:
            require_lease(connection, self._owner)
            adopted = [job_of(row) for row in connection.execute(query.returning(*JOB_COLUMNS))]
        return sorted(adopted, key=lambda job: job.number)

    def queued(
        self, limit: int | None = None, *, after: Job | None = None, within: ResourceCounts | None = None
    ) -> list[Job]:
        """Return the front of the queue: highest priority first, then oldest first, including jobs that must wait.

        Jobs whose data set is being checked are omitted.

        Reading takes about 0.2 s for 10,000 jobs. 50,000 jobs that request too much are skipped in about 20 ms.

        Args:
            after: a job of the queue; only those after it are returned.
            within: jobs that request more than these resources are omitted.
        """
        query = select(*JOB_COLUMNS).where(jobs.c.status == JobStatus.QUEUED, ~IS_BEING_CHECKED)
        if after is not None:
            is_later = (jobs.c.priority == after.priority) & (jobs.c.number > after.number)
            query = query.where((jobs.c.priority < after.priority) | is_later)
        if within is not None:
            for name, column in ((CPUS, jobs.c.cpus), (GPUS, jobs.c.gpus)):
                free = available(within, name)
                # The first condition follows from the second, and PostgreSQL evaluates it in the index of the queue.
                query = query.where(column <= free, column * jobs.c.num_nodes <= free)
            query = query.where(jobs.c.num_nodes <= available(within, NODES))
        return self._jobs(query.order_by(jobs.c.priority.desc(), jobs.c.number).limit(limit))

    def problem_of_dataset(self, job: Job) -> str | None:
        """Return the reason why the data set of a job cannot be used, if it names an invalid one."""
        with reading(self._engine) as connection:
            found = dataset_of_job(connection, job.id)
        if found is None or found.status is not DatasetStatus.INVALID:
            return None
        return f"the data set {found.reference} is invalid: {found.message}"

    def active(self) -> list[Job]:
        """Return all active jobs that are leased to this supervisor, oldest first."""
        query = select(*JOB_COLUMNS).where(jobs.c.status.in_(sorted(ACTIVE)), jobs.c.lease_owner == self._owner)
        return self._jobs(query.order_by(jobs.c.number))

    def all_active(self) -> list[Job]:
        """Return all active jobs at a moment at which this supervisor has the lease, so that all of them are its own.

        Raises:
            Superseded: another supervisor has the lease.
        """
        query = select(*JOB_COLUMNS).where(jobs.c.status.in_(sorted(ACTIVE))).order_by(jobs.c.number)
        with writing(self._engine) as connection:
            require_lease(connection, self._owner)
            return [job_of(row) for row in connection.execute(query)]

    def claim(self, job_id: str, gpu_ids: Sequence[str]) -> Job | None:
        """Start the next attempt of a queued job and take its lease.

        Return None if it is no longer queued, or if another transaction is changing it at this moment.

        Args:
            gpu_ids: the devices that the executor has assigned to the attempt.

        Raises:
            Superseded: another supervisor has the lease.
        """
        with writing(self._engine) as connection:
            require_lease(connection, self._owner)
            is_queued = (jobs.c.id == job_id, jobs.c.status == JobStatus.QUEUED)
            queued = find_locked(connection, *is_queued, skip_locked=True)
            if queued is None:
                return None
            now = time.time()
            job = change_status(
                connection, queued, JobStatus.STARTING, Writer.SUPERVISOR,
                stage=None, attempt=queued.attempt + 1, lease_owner=self._owner,
                started_at=now if queued.started_at is None else queued.started_at,
            )  # fmt: skip
            attempt = {"job_id": job.id, "number": job.attempt, "lease_owner": self._owner, "started_at": now}
            clock = {"boot_id": boot_id(), "started_uptime_s": uptime_s()}
            connection.execute(insert(attempts).values(**attempt, **self._place, **clock, gpu_ids=list(gpu_ids)))
        return job

    def move(
        self, job: Job, to: JobStatus, *, message: str | None = None, failure: tuple[FailureKind, str] | None = None
    ) -> Job:
        """Move a job to another state, except back into the queue (see `requeue`); a terminal state ends its lease.

        Raises:
            LeaseLost: the job is another supervisor's.
            CancelRequested: it would succeed or fail, but a cancel request was recorded first.
            IllegalTransition: the transition table does not allow it.
        """
        if (failure is not None) != (to is JobStatus.FAILED):
            raise ValueError(f"job {job.id} -> {to}: pass a failure (kind, message) for `failed`, and only then")
        values: dict[str, Any] = {}
        if to.is_terminal:
            values |= {"finished_at": time.time(), "stage": None, "lease_owner": None}
        if failure is not None:
            values |= {"failure_kind": failure[0], "failure_message": failure[1]}
            message = failure[1] if message is None else message
        with writing(self._engine) as connection:
            before = self._held(connection, job)
            if to is JobStatus.QUEUED:
                raise IllegalTransition(before, to)
            return self._change(connection, before, to, message, **values)

    def requeue(self, job: Job, *, not_before: float, spends_retry: bool, message: str) -> Job:
        """Put a job back into the queue for another attempt, and end its lease.

        Raises:
            LeaseLost: the job is another supervisor's.
            CancelRequested: a cancel request was recorded first.
            IllegalTransition: the job is being cancelled.
        """
        with writing(self._engine) as connection:
            before = self._held(connection, job)
            return self._change(
                connection, before, JobStatus.QUEUED, message,
                stage=None, lease_owner=None, not_before=not_before, failures=before.failures + spends_retry,
            )  # fmt: skip

    def end_attempt(self, job: Job, outcome: Outcome, exit_code: int | None = None, message: str | None = None) -> None:
        """Record the end of the current attempt; call it before the job leaves its active states.

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
        """Append parsed lines of events.jsonl, and update the job's progress, stage and `events_offset` from them.

        Lines that are not events are skipped.

        Raises:
            LeaseLost: the job is another supervisor's.
            ValueError: `job.events_offset` differs from the recorded offset: lines would be recorded twice or lost.
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
                    f"{held.events_offset}; continue from there, with the job as the store returns it"
                )
            append_events(connection, rows)
            return update_job(connection, held, **values)

    def set_mlflow_run(self, job: Job, run_id: str) -> Job:
        """Record the job's MLflow run, which all its attempts share.

        Raises:
            LeaseLost: the job is another supervisor's.
        """
        with writing(self._engine) as connection:
            return update_job(connection, self._held(connection, job), mlflow_run_id=run_id)

    def unsettled(self) -> list[Job]:
        """Return the ended jobs whose MLflow run does not have its final status yet, oldest first."""
        # There is no condition on the status, with which SQLite would scan all ended jobs instead of this index.
        run = jobs.c.mlflow_run_id.is_not(None) & jobs.c.mlflow_status.is_(None)
        query = select(*JOB_COLUMNS).where(run, jobs.c.finished_at.is_not(None))
        return self._jobs(query.order_by(jobs.c.number))

    def settle(self, job_id: str, status: str) -> None:
        """Record the final status that MLflow has for the run of a job; ignored for a job that has not ended."""
        query = update(jobs).where(jobs.c.id == job_id, jobs.c.status.in_(sorted(TERMINAL)))
        with writing(self._engine) as connection:
            connection.execute(query.values(mlflow_status=status))

    def gpu_ids_in_use(self) -> set[str]:
        """Return the GPUs of all active jobs, no matter which supervisor holds their leases."""
        query = (
            select(attempts.c.gpu_ids)
            .join_from(jobs, attempts, (attempts.c.job_id == jobs.c.id) & (attempts.c.number == jobs.c.attempt))
            .where(jobs.c.status.in_(sorted(ACTIVE)))
        )
        with reading(self._engine) as connection:
            return {gpu_id for row in connection.execute(query) for gpu_id in row.gpu_ids}

    def _jobs(self, query: Select[Any]) -> list[Job]:
        with reading(self._engine) as connection:
            return [job_of(row) for row in connection.execute(query)]

    def _held(self, connection: Connection, job: Job) -> Job:
        """Return the job as it is now, locked until the transaction ends; raises LeaseLost."""
        held = find_locked(
            connection,
            jobs.c.id == job.id,
            jobs.c.attempt == job.attempt,
            jobs.c.lease_owner == self._owner,
            jobs.c.status.in_(sorted(ACTIVE)),
        )
        if held is None:
            raise LeaseLost(job)
        return held

    def _change(self, connection: Connection, before: Job, to: JobStatus, message: str | None, **values: Any) -> Job:
        is_cancelled_first = before.cancel_requested_at is not None and to in _PREVENTED_BY_CANCEL
        if is_cancelled_first and may_move(Writer.SUPERVISOR, before.status, to):
            raise CancelRequested(before)
        return change_status(connection, before, to, Writer.SUPERVISOR, message, **values)


def _row(job: Job, event: TrainerEvent) -> dict[str, Any]:
    return {"job_id": job.id, "attempt": job.attempt, **event.model_dump()}
