"""One round of the supervisor: watch the active jobs, start those that fit, send final statuses to MLflow.

Everything that must outlive this process is in the database and the run folders; the state in memory only saves work.
"""

import logging
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from pipelines.run_folder.tracking_files import RunStatus
from service.executors.base import Executor
from service.resources import CPUS
from service.settings import Settings
from service.states import JobStatus
from service.store.errors import CancelRequested, LeaseLost
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import Job
from service.supervisor.attempts import Command, attempt_folder
from service.supervisor.job_watcher import JobWatcher, WatchedAttempt
from service.supervisor.mlflow_worker import MlflowWorker
from service.supervisor.scheduling import next_starts

log = logging.getLogger(__name__)

SETTLE_EVERY_S = 1.0
ORPHANS_EVERY_S = 30.0
MAX_PAUSE_S = 10.0
"""Maximum pause before a job or the database is tried again after errors."""
MAX_ERRORS_AT_START = 5
QUEUE_FRONT = 1000
"""Number of waiting jobs that are considered in a round: reading all of 100,000 would take seconds."""
STATUS_OF_RUN: dict[JobStatus, RunStatus] = {
    JobStatus.SUCCEEDED: "FINISHED",
    JobStatus.FAILED: "FAILED",
    JobStatus.CANCELLED: "KILLED",
}


class Supervisor:
    """Runs jobs from the queue to their end; one supervisor at a time holds the leases of all active jobs."""

    def __init__(
        self,
        settings: Settings,
        jobs: JobStore,
        leased: LeasedStore,
        executor: Executor,
        mlflow: MlflowWorker,
        command: Command | None = None,
    ) -> None:
        self._settings, self._leased, self._executor, self._mlflow = settings, leased, executor, mlflow
        self._watcher = JobWatcher(settings, jobs, leased, executor, mlflow, command)
        self._watched: dict[str, WatchedAttempt] = {}
        self._settle_at = 0.0
        self._orphans_at = 0.0

    def adopt(self) -> None:
        """Take over the active jobs of an earlier supervisor, stop orphaned attempts, and watch every attempt once."""
        for job in self._leased.adopt_all():
            log.info("job %s: adopted; attempt %d is %s", job.id, job.attempt, job.status)
        self._watch_all()

    def tick(self) -> None:
        """Do everything that can be done now, without waiting.

        Raises:
            LeaseLost: another supervisor has taken over; this one must exit at once.
        """
        self._watch_all()
        self._start_jobs_that_fit()
        self._settle()

    def _watch_all(self) -> None:
        active = self._leased.active()
        self._end_orphans(active)
        self._watched = {job.id: self._watched_attempt(job) for job in active}
        for job in active:
            self._watch_job(job)

    def _watched_attempt(self, job: Job) -> WatchedAttempt:
        attempt = self._watched.get(job.id)
        return attempt if attempt is not None and attempt.number == job.attempt else WatchedAttempt(job.attempt)

    def _watch_job(self, job: Job) -> None:
        """Watch one job; its errors are logged and do not affect other jobs."""
        attempt = self._watched[job.id]
        if time.monotonic() < attempt.paused_until:
            return
        try:
            self._watcher.watch(job, attempt)
            attempt.errors = 0
        except LeaseLost:
            raise
        except CancelRequested as request:
            log.info("%s", request)
        except Exception as error:  # whatever the error is, the other jobs continue
            attempt.errors += 1
            pause_s = min(MAX_PAUSE_S, self._settings.poll_s * 2**attempt.errors)
            attempt.paused_until = time.monotonic() + pause_s
            log.error("job %s: %s; next try in %.1f s", job.id, one_line(error), pause_s)
            if attempt.errors >= MAX_ERRORS_AT_START and job.status is JobStatus.STARTING:
                self._give_up(job, error)

    def _give_up(self, job: Job, error: Exception) -> None:
        """Record the end of an attempt that cannot be started; this may fail, for example without a database."""
        try:
            self._watcher.give_up(job, f"the supervisor could not start the attempt: {one_line(error)}")
        except LeaseLost:
            raise
        except Exception as second:
            log.error("job %s: %s", job.id, one_line(second))

    def _start_jobs_that_fit(self) -> None:
        active, capacity = self._leased.active(), self._executor.capacity()
        if sum(job.cpus for job in active) >= capacity[CPUS]:
            # Each job needs a core, so the queue need not be read.
            return
        queued = self._leased.queued(limit=QUEUE_FRONT)
        starts = next_starts(queued, active, capacity, time.time())
        in_use = self._leased.gpu_ids_in_use() if starts else set()
        for chosen in starts:
            devices = self._executor.assign(chosen.resources, in_use)
            job = self._leased.claim(chosen.id, devices)
            if job is not None:
                in_use |= set(devices)
                log.info("job %s: queued -> starting, attempt %d", job.id, job.attempt)
                self._watched[job.id] = WatchedAttempt(job.attempt)
                self._watch_job(job)

    def _settle(self) -> None:
        """Send the final statuses of ended jobs to MLflow, and record those that it has accepted."""
        for job_id, status in self._mlflow.take_closed().items():
            self._leased.settle(job_id, status)
        if time.monotonic() >= self._settle_at:
            self._settle_at = time.monotonic() + SETTLE_EVERY_S
            for job in self._leased.unsettled():
                assert job.mlflow_run_id is not None
                self._mlflow.close(job.id, job.mlflow_run_id, STATUS_OF_RUN[job.status])

    def _end_orphans(self, active: Sequence[Job]) -> None:
        if time.monotonic() >= self._orphans_at:
            self._orphans_at = time.monotonic() + ORPHANS_EVERY_S
            known = [attempt_folder(self._settings, job) for job in active]
            self._executor.sweep_orphans(known, self._settings.jobs_dir)


def one_line(error: BaseException) -> str:
    """Return the type, the message and the source line of an error in one line."""
    message = " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {message}{where}"
