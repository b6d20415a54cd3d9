"""The steps of one active job from its claim to the end of its attempt.

This process may be killed after any step. The next supervisor then continues from the database, the run folder and
the executor.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.base.errors import DISK_FULL_ERRNOS, ExitCode
from pipelines.run_folder.layout import RunDir
from pipelines.tracking.job_runs import run_of_trainer
from service.boot_clock import boot_id, uptime_s
from service.executors.base import Executor, Observation
from service.jobs.kinds.registry import job_kind
from service.settings import Settings
from service.states import FailureKind, JobStatus
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import AttemptRecord, Job
from service.supervisor.attempt_outcomes import (
    AttemptOutcome,
    FailureReason,
    is_over_time,
    outcome_of_exit,
    outcome_of_failure,
)
from service.supervisor.attempts import Command, attempt_folder, attempt_spec, write_document
from service.supervisor.event_import import read_event_lines
from service.supervisor.lease import Lease
from service.supervisor.mlflow_worker import MlflowWorker

log = logging.getLogger(__name__)

MLFLOW_PATIENCE_S = 10.0
"""Maximum time that a job waits for its MLflow run; without one, the trainer buffers its data and creates a run."""
START_AGAIN_S = 5.0
GIVE_UP_START_S = 60.0
SHIM_SLACK_S = 2.0
"""Time that a shim has to kill its tree after the grace period. Then it is signaled again; after twice the time, it is
killed."""


@dataclass
class WatchedAttempt:
    """State of this process about an attempt; times are monotonic."""

    number: int
    run_wanted_at: float | None = None
    first_start_at: float | None = None
    start_at: float | None = None
    stop_at: float | None = None
    errors: int = 0
    paused_until: float = 0.0
    given_up: str | None = None
    """The reason why the attempt must end, whatever cannot be read or recorded meanwhile."""
    first: AttemptRecord | None = None
    """The first attempt of the job, once it was read."""


class JobWatcher:
    """Watches active jobs, one at a time."""

    def __init__(
        self,
        settings: Settings,
        jobs: JobStore,
        leased: LeasedStore,
        executor: Executor,
        mlflow: MlflowWorker,
        lease: Lease,
        command: Command | None,
    ) -> None:
        self._settings, self._jobs, self._leased, self._executor = settings, jobs, leased, executor
        self._mlflow, self._lease, self._command = mlflow, lease, command

    def watch(self, job: Job, attempt: WatchedAttempt) -> None:
        """Advance one job as far as possible without waiting.

        Raises:
            LeaseLost, Superseded: the job is another supervisor's.
            CancelRequested: a cancel request arrived meanwhile; watch the job again.
        """
        if job.cancel_requested_at is not None and job.status is not JobStatus.CANCELLING:
            job = self._move(job, JobStatus.CANCELLING)
        if attempt.given_up is not None:
            self._give_up(job, attempt, attempt.given_up)
            return
        seen = self._executor.poll(self._folder(job))
        if seen.kind == "alive":
            self._follow(job, attempt)
        elif seen.kind == "pending":
            self._await_resources(job, attempt)
        elif seen.kind == "absent" and job.status is JobStatus.STARTING:
            self._start(job, attempt)
        else:
            self._finish(job, seen, attempt)

    def _give_up(self, job: Job, attempt: WatchedAttempt, sentence: str) -> None:
        """Stop an attempt that cannot be started or watched, and record its end with the reason."""
        try:
            seen = self._executor.poll(self._folder(job))
        except OSError:
            seen = Observation("lost")
        if seen.kind in ("alive", "pending"):
            self._stop(job, attempt, sentence)
            return
        is_complete = seen.exit_code == ExitCode.DONE and job_kind(job.kind).has_result(self._run_dir(job))
        if is_complete:
            log.warning("job %s: has ended, but its last events are missing: %s", job.id, sentence)
            self._finish(job, seen, attempt)
        else:
            self._fail(job, (FailureKind.INTERNAL, sentence), attempt, seen.exit_code)

    def _run_dir(self, job: Job) -> RunDir:
        return RunDir.of(self._settings.run_dir(job.id))

    def _folder(self, job: Job) -> Path:
        return attempt_folder(self._settings, job)

    def _move(self, job: Job, to: JobStatus) -> Job:
        moved = self._leased.move(job, to)
        log.info("job %s: %s -> %s", job.id, job.status, to)
        return moved

    def _start(self, job: Job, attempt: WatchedAttempt) -> None:
        """Start the attempt once its MLflow run exists or has taken too long, and again if no process appears."""
        now = time.monotonic()
        if attempt.start_at is not None and now < attempt.start_at + START_AGAIN_S:
            return
        if attempt.first_start_at is not None and now > attempt.first_start_at + GIVE_UP_START_S:
            reason = f"no process of the attempt appeared within {GIVE_UP_START_S:g} s"
            self._fail(job, (FailureKind.INTERNAL, reason), attempt)
            return
        if is_over_time(job, self._elapsed_s(job, attempt)):
            self._finish(job, Observation("absent"), attempt)
            return
        if attempt.start_at is None and (problem := self._leased.problem_of_dataset(job)) is not None:
            self._fail(job, (FailureKind.DATA_INVALID, problem), attempt)
            return
        config = self._jobs.config(job.id)
        with_run = job if attempt.first_start_at is not None else self._with_run(job, config, attempt)
        if with_run is None:
            return
        devices = self._jobs.attempts(job.id)[-1].gpu_ids
        attempt.start_at = now
        attempt.first_start_at = attempt.first_start_at or now
        try:
            write_document(self._run_dir(job), config)
            self._executor.start(
                attempt_spec(
                    self._settings,
                    job,
                    devices,
                    with_run.mlflow_run_id,
                    command=self._command,
                    start_until=self._lease.require(),
                )
            )
        except OSError as error:
            kind = FailureKind.DISK_FULL if error.errno in DISK_FULL_ERRNOS else FailureKind.INTERNAL
            self._fail(with_run, (kind, f"the attempt could not be started: {error}"), attempt)

    def _with_run(self, job: Job, config: Mapping[str, Any], attempt: WatchedAttempt) -> Job | None:
        """Return the job, with its MLflow run unless that took too long; None while it waits for the run."""
        tracking = job_kind(job.kind).tracking(config)
        if tracking is None or job.mlflow_run_id is not None:
            return job
        if (found := self._with_run_of_trainer(job)).mlflow_run_id is not None:
            return found
        self._mlflow.open(job.id, tracking.experiment, job.name)
        if (run_id := self._mlflow.opened(job.id)) is not None:
            job = self._leased.set_mlflow_run(job, run_id)
            self._mlflow.take(job.id)
            return job
        attempt.run_wanted_at = attempt.run_wanted_at or time.monotonic()
        if time.monotonic() < attempt.run_wanted_at + MLFLOW_PATIENCE_S:
            return None
        log.warning("job %s: starts without an MLflow run; its trainer creates one when MLflow answers", job.id)
        self._mlflow.withdraw(job.id)
        return job

    def _with_run_of_trainer(self, job: Job) -> Job:
        """Return the job, with the MLflow run that its trainer has created if it was started without one."""
        if job.mlflow_run_id is None and (run_id := run_of_trainer(self._run_dir(job).path, self._mlflow.store)):
            return self._leased.set_mlflow_run(job, run_id)
        return job

    def _await_resources(self, job: Job, attempt: WatchedAttempt) -> None:
        """Leave the attempt to the system that has accepted it, however long it waits there, unless it must stop."""
        attempt.start_at = attempt.first_start_at = None
        self._stop_if_due(job, attempt)

    def _follow(self, job: Job, attempt: WatchedAttempt) -> None:
        if job.status is JobStatus.STARTING:
            job = self._move(job, JobStatus.RUNNING)
        # Before its files are read, which may fail.
        self._stop_if_due(job, attempt)
        self._with_run_of_trainer(self._with_events(job))

    def _stop_if_due(self, job: Job, attempt: WatchedAttempt) -> None:
        if job.status is JobStatus.CANCELLING:
            self._stop(job, attempt, "it was cancelled")
        elif is_over_time(job, self._elapsed_s(job, attempt)):
            self._stop(job, attempt, "its time limit is exceeded")

    def _stop(self, job: Job, attempt: WatchedAttempt, reason: str) -> None:
        """Stop the attempt: ask it to exit, then let its shim kill it, then kill it together with its shim."""
        folder, now = self._folder(job), time.monotonic()
        if attempt.stop_at is None:
            log.info("job %s: stopping its attempt, because %s", job.id, reason)
            self._executor.stop(folder)
            attempt.stop_at = now
            return
        late_s = now - attempt.stop_at - self._settings.cancel_grace_s
        if late_s > 2 * SHIM_SLACK_S:
            self._executor.sweep(folder)
        elif late_s > SHIM_SLACK_S:
            self._executor.stop(folder, kill=True)

    def _with_events(self, job: Job) -> Job:
        """Return the job after recording some of the events that its trainer has written."""
        read = read_event_lines(self._run_dir(job).events, job.events_offset)
        return job if read.offset == job.events_offset else self._leased.record_events(job, read.lines, read.offset)

    def _elapsed_s(self, job: Job, attempt: WatchedAttempt) -> float:
        """Return the seconds since the start of the first attempt, by a clock that nobody can set if possible."""
        if job.timeout_s is None or job.started_at is None:
            return 0.0
        attempt.first = attempt.first or self._jobs.attempts(job.id)[0]
        if attempt.first.boot_id == boot_id() and attempt.first.started_uptime_s is not None:
            return uptime_s() - attempt.first.started_uptime_s
        return time.time() - job.started_at

    def _finish(self, job: Job, seen: Observation, attempt: WatchedAttempt) -> None:
        """Kill the remaining processes of an attempt, and record its end once there are none."""
        if seen.kind == "exited":
            if job.status is JobStatus.STARTING:
                job = self._move(job, JobStatus.RUNNING)
            if job.status is JobStatus.RUNNING:
                job = self._move(job, JobStatus.FINALIZING)
        self._lease.require()
        if not self._executor.sweep(self._folder(job)):
            return
        while attempt.given_up is None and (later := self._with_events(job)).events_offset != job.events_offset:
            job = later
        elapsed_s = self._elapsed_s(job, attempt)
        outcome = outcome_of_exit(job, seen, self._run_dir(job), self._settings, time.time(), elapsed_s)
        self._end(job, attempt, seen.exit_code, outcome)

    def _fail(self, job: Job, failure: FailureReason, attempt: WatchedAttempt, exit_code: int | None = None) -> None:
        """Kill the remaining processes of an attempt, and record that it has failed once there are none."""
        self._lease.require()
        if self._executor.sweep(self._folder(job)):
            is_cancelled = job.cancel_requested_at is not None
            outcome = (
                AttemptOutcome("cancelled", JobStatus.CANCELLED)
                if is_cancelled
                else outcome_of_failure(job, failure, self._settings, time.time())
            )
            self._end(job, attempt, exit_code, outcome)

    def _end(self, job: Job, attempt: WatchedAttempt, exit_code: int | None, outcome: AttemptOutcome) -> None:
        if attempt.given_up is None:
            job = self._with_run_of_trainer(job)
        self._leased.end_attempt(job, outcome.outcome, exit_code, outcome.message)
        if outcome.to is JobStatus.CANCELLED and job.status is not JobStatus.CANCELLING:
            job = self._move(job, JobStatus.CANCELLING)
        if outcome.to is JobStatus.QUEUED:
            self._leased.requeue(
                job, not_before=outcome.not_before, spends_retry=outcome.spends_retry, message=outcome.message or ""
            )
        else:
            self._leased.move(job, outcome.to, failure=outcome.failure)
        self._mlflow.withdraw(job.id)
        reason = f": {outcome.message}" if outcome.message else ""
        log.info("job %s: %s -> %s%s", job.id, job.status, outcome.to, reason)
