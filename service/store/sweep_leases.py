"""Sweeps as a supervisor writes them: new trials with their jobs, the ends of trials, and of sweeps.

Each write requires that the supervisor has the lease of `store.supervisor_lease`, in the transaction of the write. So
two supervisors never start the same trial, and one that was killed between two writes leaves nothing incomplete.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, update

from service.principal import KeyLimits, Principal
from service.states import SweepStatus, TrialState
from service.store.database import reading, writing
from service.store.new_jobs import insert_job
from service.store.records import Job, NewJob
from service.store.rows import JOB_COLUMNS, job_of
from service.store.supervisor_lease import require_lease
from service.store.sweep_records import Report, Sweep, SweepTrial
from service.store.sweep_rows import SWEEP_COLUMNS, locked_sweep, sweep_of, trials_of, update_sweep
from service.store.tables import api_keys, events, jobs, sweep_trials, sweeps

_ACTIVE = sweep_trials.c.state.in_([state for state in TrialState if state.is_active])
_METRIC = "metric"


@dataclass
class _Ended:
    """The first trials of a sweep, up to one that has not ended, and the jobs of a part of them: both never change."""

    trials: list[SweepTrial] = field(default_factory=list)
    jobs: dict[str, Job] = field(default_factory=dict)
    num_jobs_read: int = 0


class LeasedSweepStore:
    """Every method raises Superseded if another supervisor has the lease, and StoreUnavailable while the database
    cannot be used. Trials that have ended, and their jobs, are read once.

    Args:
        owner: the supervisor.
    """

    def __init__(self, engine: Engine, owner: str) -> None:
        self._engine, self._owner = engine, owner
        self._ended: dict[str, _Ended] = {}

    def running(self) -> list[Sweep]:
        """Return the sweeps that have not ended, oldest first."""
        return self._sweeps(sweeps.c.status == SweepStatus.RUNNING)

    def unsettled(self) -> list[Sweep]:
        """Return the ended sweeps whose MLflow run does not have its final status yet, oldest first."""
        ended = sweeps.c.status != SweepStatus.RUNNING
        return self._sweeps(ended, sweeps.c.mlflow_run_id.is_not(None), sweeps.c.mlflow_status.is_(None))

    def _sweeps(self, *conditions: Any) -> list[Sweep]:
        with reading(self._engine) as connection:
            query = select(*SWEEP_COLUMNS).where(*conditions).order_by(sweeps.c.number)
            return [sweep_of(row) for row in connection.execute(query)]

    def jobs(self, sweep: Sweep) -> dict[str, Job]:
        """Return the jobs of a sweep's trials by id; those that were deleted before they were read are missing."""
        ended = self._ended.setdefault(sweep.id, _Ended())
        num_ended = len(ended.trials)
        query = select(*JOB_COLUMNS).join(sweep_trials, sweep_trials.c.job_id == jobs.c.id)
        query = query.where(sweep_trials.c.sweep_id == sweep.id, sweep_trials.c.number >= ended.num_jobs_read)
        with reading(self._engine) as connection:
            found = {row.id: job_of(row) for row in connection.execute(query)}
        of_ended = (trial.job_id or "" for trial in ended.trials[ended.num_jobs_read : num_ended])
        ended.jobs |= {job_id: found[job_id] for job_id in of_ended if job_id in found}
        ended.num_jobs_read = num_ended
        return ended.jobs | found

    def trials(self, sweep: Sweep) -> list[SweepTrial]:
        """Return the trials of a sweep in their order."""
        with reading(self._engine) as connection:
            return self._trials(connection, sweep)

    def _trials(self, connection: Connection, sweep: Sweep) -> list[SweepTrial]:
        ended = self._ended.setdefault(sweep.id, _Ended()).trials
        found = trials_of(connection, sweep.id, first=len(ended))
        trials = [*ended, *found]
        ended.extend(takewhile(lambda trial: not trial.state.is_active, found))
        return trials

    def submitter(self, sweep: Sweep, default: KeyLimits) -> Principal:
        """Return the principal on whose behalf the jobs of a sweep are queued.

        Args:
            sweep: the sweep.
            default: the limits of keys without limits of their own.
        """
        with reading(self._engine) as connection:
            query = select(api_keys.c.queued_jobs).where(api_keys.c.id == sweep.key_id)
            own = connection.execute(query).scalar_one_or_none()
        limits = KeyLimits(queued_jobs=own or default.queued_jobs)
        return Principal(f"sweep {sweep.id}", sweep.tenant, frozenset(), sweep.key_id, limits)

    def add_trial(self, sweep: Sweep, number: int, params: Mapping[str, Any], new: NewJob, by: Principal) -> Job | None:
        """Put the job of the next trial into the queue; None if the sweep was cancelled or is failing.

        Raises:
            QueueLimit, DatasetNotFound: see `insert_job`.
        """
        with self._writing(sweep) as (connection, current):
            if current.is_stopping:
                return None
            job = insert_job(connection, new, by)
            _insert_trial(connection, sweep, number, params, state=TrialState.RUNNING, job_id=job.id)
        return job

    def add_invalid_trial(self, sweep: Sweep, number: int, params: Mapping[str, Any], message: str) -> None:
        """Record a trial whose document cannot run."""
        ended = {"state": TrialState.FAILED, "message": message, "ended_at": time.time()}
        with self._writing(sweep) as (connection, _):
            _insert_trial(connection, sweep, number, params, job_id=None, **ended)

    def record_reports(self, sweep: Sweep, metric: str) -> list[SweepTrial]:
        """Copy the new metric events of all active trials, as they are at one moment, and return all trials."""
        with reading(self._engine) as connection:
            found = self._trials(connection, sweep)
            active = {t.job_id: t for t in found if t.state is TrialState.RUNNING and t.job_id is not None}
            query = select(events.c.job_id, events.c.seq, events.c.epoch, events.c.data).where(
                events.c.job_id.in_(active),
                events.c.kind == _METRIC,
                events.c.seq
                > min((trial.reports[-1].seq if trial.reports else 0 for trial in active.values()), default=0),
            )
            rows = connection.execute(query.order_by(events.c.seq)).all() if active else []
        new: dict[int, list[Report]] = {}
        for row in rows:
            trial = active[row.job_id]
            is_known = bool(trial.reports) and row.seq <= trial.reports[-1].seq
            if not is_known and isinstance(value := row.data.get(metric), int | float):
                new.setdefault(trial.number, []).append(Report(row.epoch, float(value), row.seq))
        if not new:
            return found
        with self._writing(sweep) as (connection, _):
            for number, reports in new.items():
                values = {"reports": [list(report) for report in (*found[number].reports, *reports)]}
                connection.execute(update(sweep_trials).where(_is_trial(sweep, number)).values(values))
            return self._trials(connection, sweep)

    def request_pruning(self, sweep: Sweep, number: int, message: str) -> None:
        """Record that a running trial is to be stopped; its job is cancelled afterward."""
        values = {"state": TrialState.PRUNING, "message": message}
        self._update_trial(sweep, number, sweep_trials.c.state == TrialState.RUNNING, **values)

    def end_trial(
        self,
        sweep: Sweep,
        number: int,
        state: TrialState,
        *,
        message: str | None = None,
        value: float | None = None,
        limited: Mapping[str, float] | None = None,
    ) -> None:
        """Record the end of an active trial."""
        values = {"state": state, "value": value, "limited": dict(limited or {}), "ended_at": time.time()}
        self._update_trial(sweep, number, _ACTIVE, **values, **({} if message is None else {"message": message}))

    def _update_trial(self, sweep: Sweep, number: int, condition: Any, **values: Any) -> None:
        with self._writing(sweep) as (connection, _):
            connection.execute(update(sweep_trials).where(_is_trial(sweep, number), condition).values(values))

    def fail(self, sweep: Sweep, message: str) -> Sweep:
        """Record the reason why a sweep fails; it ends once its active trials have been cancelled."""
        with self._writing(sweep) as (connection, _):
            return update_sweep(connection, sweep.id, is_failing=True, message=message)

    def set_message(self, sweep: Sweep, message: str | None) -> None:
        """Record the reason why a sweep waits; None once it does not."""
        if message != sweep.message:
            with self._writing(sweep) as (connection, _):
                update_sweep(connection, sweep.id, message=message)

    def finish(self, sweep: Sweep, status: SweepStatus, message: str | None) -> None:
        """Record the end of a sweep without active trials."""
        with self._writing(sweep) as (connection, _):
            update_sweep(connection, sweep.id, status=status, message=message, finished_at=time.time())
        self._ended.pop(sweep.id, None)

    def set_mlflow_run(self, sweep_id: str, run_id: str) -> None:
        """Record the run that is the parent of the trials' runs; the sweep may have ended meanwhile."""
        with writing(self._engine) as connection:
            require_lease(connection, self._owner)
            connection.execute(update(sweeps).where(sweeps.c.id == sweep_id).values(mlflow_run_id=run_id))

    def settle(self, sweep_id: str, status: str) -> None:
        """Record the final status that MLflow has for the run of an ended sweep."""
        with writing(self._engine) as connection:
            require_lease(connection, self._owner)
            connection.execute(update(sweeps).where(sweeps.c.id == sweep_id).values(mlflow_status=status))

    @contextmanager
    def _writing(self, sweep: Sweep) -> Iterator[tuple[Connection, Sweep]]:
        """Provide a transaction, and a running sweep as it is now, locked; raises SweepNotFound if it has ended."""
        with writing(self._engine) as connection:
            require_lease(connection, self._owner)
            yield connection, locked_sweep(connection, sweep.id, sweeps.c.status == SweepStatus.RUNNING)


def _is_trial(sweep: Sweep, number: int) -> Any:
    return (sweep_trials.c.sweep_id == sweep.id) & (sweep_trials.c.number == number)


def _insert_trial(connection: Connection, sweep: Sweep, number: int, params: Mapping[str, Any], **values: Any) -> None:
    fixed: dict[str, Any] = {"reports": [], "limited": {}, "created_at": time.time(), "params": dict(params)}
    connection.execute(insert(sweep_trials).values(sweep_id=sweep.id, number=number, **fixed, **values))
