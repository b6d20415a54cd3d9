"""What is done for one active job, each time that it is looked at: from its claim to the end of its attempt.

Every step may be the last one before this process is killed; the next supervisor goes on from what the database, the
run folder and the executor say.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import DISK_FULL_ERRNOS
from pipelines.run_folder.layout import RunDir
from pipelines.spec.training import TrackingSpec
from pipelines.tracking.job_runs import run_of_trainer
from service.executors.base import Executor, Observation
from service.settings import Settings
from service.states import FailureKind, JobStatus
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import Job
from service.supervisor.attempt_outcomes import (
    AttemptOutcome,
    FailureReason,
    is_over_time,
    outcome_of_exit,
    outcome_of_failure,
)
from service.supervisor.attempts import Command, attempt_folder, attempt_spec, write_document
from service.supervisor.event_import import read_event_lines
from service.supervisor.mlflow_worker import MlflowWorker

log = logging.getLogger(__name__)

MLFLOW_PATIENCE_S = 10.0
"""How long a job waits for its MLflow run; without one the trainer buffers, and makes its own."""
START_AGAIN_S = 5.0
GIVE_UP_START_S = 60.0
SHIM_SLACK_S = 2.0
"""What a shim has to kill its tree after the grace; it is told again then, and killed itself after twice that."""


@dataclass
class WatchedAttempt:
    """What this process remembers of an attempt; times are monotonic."""

    number: int
    run_wanted_at: float | None = None
    first_start_at: float | None = None
    start_at: float | None = None
    stop_at: float | None = None
    errors: int = 0
    rests_until: float = 0.0


class JobWatcher:
    """Looks after jobs that are active, one at a time."""

    def __init__(
        self,
        settings: Settings,
        jobs: JobStore,
        leased: LeasedStore,
        executor: Executor,
        mlflow: MlflowWorker,
        command: Command,
    ) -> None:
        self._settings, self._jobs, self._leased, self._executor = settings, jobs, leased, executor
        self._mlflow, self._command = mlflow, command

    def watch(self, job: Job, attempt: WatchedAttempt) -> None:
        """Take one job as far as it can be taken now, without waiting for anything.

        Raises:
            LeaseLost: the job is another supervisor's.
            CancelRequested: a wish to cancel came in between: look again.
        """
        if job.cancel_requested_at is not None and job.status is not JobStatus.CANCELLING:
            job = self._move(job, JobStatus.CANCELLING)
        seen = self._executor.poll(self._folder(job))
        if seen.kind == "alive":
            self._go_on(job, attempt)
        elif seen.kind == "absent" and job.status is JobStatus.STARTING:
            self._start(job, attempt)
        else:
            self._come_to_end(job, seen)

    def give_up(self, job: Job, sentence: str) -> None:
        """End an attempt that this supervisor gets nowhere with."""
        self._fail_start(job, (FailureKind.INTERNAL, sentence))

    def _run_dir(self, job: Job) -> RunDir:
        return RunDir.of(self._settings.run_dir(job.id))

    def _folder(self, job: Job) -> Path:
        return attempt_folder(self._settings, job)

    def _move(self, job: Job, to: JobStatus) -> Job:
        moved = self._leased.move(job, to)
        log.info("job %s: %s -> %s", job.id, job.status, to)
        return moved

    def _start(self, job: Job, attempt: WatchedAttempt) -> None:
        """Start the attempt once its MLflow run is there or has taken too long; again where no process came of it."""
        now = time.monotonic()
        if attempt.start_at is not None and now < attempt.start_at + START_AGAIN_S:
            return
        if attempt.first_start_at is not None and now > attempt.first_start_at + GIVE_UP_START_S:
            self.give_up(job, f"no process of the attempt came up within {GIVE_UP_START_S:g} s")
            return
        if is_over_time(job, time.time()):
            self._come_to_end(job, Observation("absent"))
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
                attempt_spec(self._settings, job, devices, with_run.mlflow_run_id, command=self._command)
            )
        except OSError as error:
            kind = FailureKind.DISK_FULL if error.errno in DISK_FULL_ERRNOS else FailureKind.INTERNAL
            self._fail_start(with_run, (kind, f"the attempt could not be started: {error}"))

    def _with_run(self, job: Job, config: Mapping[str, Any], attempt: WatchedAttempt) -> Job | None:
        """Return the job with its MLflow run, or without where it has none or MLflow takes too long; None: wait."""
        tracking = _tracking(config)
        if tracking is None or job.mlflow_run_id is not None:
            return job
        if (noted := self._with_run_of_trainer(job)).mlflow_run_id is not None:
            return noted
        self._mlflow.open(job.id, tracking.experiment, job.name)
        if (run_id := self._mlflow.opened(job.id)) is not None:
            job = self._leased.set_mlflow_run(job, run_id)
            self._mlflow.take(job.id)
            return job
        attempt.run_wanted_at = attempt.run_wanted_at or time.monotonic()
        if time.monotonic() < attempt.run_wanted_at + MLFLOW_PATIENCE_S:
            return None
        log.warning("job %s: starts without an MLflow run, which its trainer will make when MLflow answers", job.id)
        self._mlflow.withdraw(job.id)
        return job

    def _with_run_of_trainer(self, job: Job) -> Job:
        """Return the job, and record the MLflow run that its trainer has made where it was started without one."""
        if job.mlflow_run_id is None and (run_id := run_of_trainer(self._run_dir(job).path, self._mlflow.store)):
            return self._leased.set_mlflow_run(job, run_id)
        return job

    def _go_on(self, job: Job, attempt: WatchedAttempt) -> None:
        if job.status is JobStatus.STARTING:
            job = self._move(job, JobStatus.RUNNING)
        job = self._with_run_of_trainer(self._with_events(job))
        if job.status is JobStatus.CANCELLING:
            self._stop(job, attempt, "it was cancelled")
        elif is_over_time(job, time.time()):
            self._stop(job, attempt, "its time is up")

    def _stop(self, job: Job, attempt: WatchedAttempt, reason: str) -> None:
        """Have the attempt end: by itself; killed by its shim; killed together with its shim."""
        folder, now = self._folder(job), time.monotonic()
        if attempt.stop_at is None:
            log.info("job %s: is asked to end, because %s", job.id, reason)
            self._executor.stop(folder)
            attempt.stop_at = now
            return
        late_s = now - attempt.stop_at - self._settings.cancel_grace_s
        if late_s > 2 * SHIM_SLACK_S:
            self._executor.sweep(folder)
        elif late_s > SHIM_SLACK_S:
            self._executor.stop(folder, kill=True)

    def _with_events(self, job: Job) -> Job:
        """Return the job after a part of what its trainer tells was recorded."""
        part = read_event_lines(self._run_dir(job).events, job.events_offset)
        return job if part.offset == job.events_offset else self._leased.record_events(job, part.lines, part.offset)

    def _come_to_end(self, job: Job, seen: Observation) -> None:
        """End an attempt of which nothing lives any more, or kill what does."""
        if seen.kind == "exited":
            if job.status is JobStatus.STARTING:
                job = self._move(job, JobStatus.RUNNING)
            if job.status is JobStatus.RUNNING:
                job = self._move(job, JobStatus.FINALIZING)
        if not self._executor.sweep(self._folder(job)):
            return
        while (later := self._with_events(job)).events_offset != job.events_offset:
            job = later
        self._end(job, seen.exit_code, outcome_of_exit(job, seen, self._run_dir(job), self._settings, time.time()))

    def _fail_start(self, job: Job, failure: FailureReason) -> None:
        if self._executor.sweep(self._folder(job)):
            self._end(job, None, outcome_of_failure(job, failure, self._settings, time.time()))

    def _end(self, job: Job, exit_code: int | None, outcome: AttemptOutcome) -> None:
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
        told = f": {outcome.message}" if outcome.message else ""
        log.info("job %s: %s -> %s%s", job.id, job.status, outcome.to, told)


def _tracking(config: Mapping[str, Any]) -> TrackingSpec | None:
    """Return what a document says of MLflow, whether or not the rest of it is right."""
    tracking = config.get("tracking", {})
    return None if tracking is None else TrackingSpec.model_validate(tracking)
