"""One round of the supervisor: watch the active jobs, start those that fit, send final statuses to MLflow.

Everything that must outlive this process is in the database and the run folders; the state in memory only saves work.
"""

import logging
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from pipelines.run_folder.tracking_files import RunStatus
from service.executors.base import Executor, ExecutorUnavailable
from service.resources import CPUS, ResourceCounts
from service.settings import Settings
from service.states import JobStatus
from service.store.errors import CancelRequested, LeaseLost, StoreUnavailable, Superseded
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import Job
from service.supervisor.attempts import Command, attempt_folder
from service.supervisor.job_watcher import JobWatcher, WatchedAttempt
from service.supervisor.lease import Lease
from service.supervisor.mlflow_worker import MlflowWorker
from service.supervisor.retention_schedule import RetentionSchedule
from service.supervisor.scheduling import Pauses, next_starts

log = logging.getLogger(__name__)

SETTLE_EVERY_S = 1.0
ORPHANS_EVERY_S = 30.0
MAX_PAUSE_S = 10.0
"""Maximum pause before a job or the database is tried again after errors."""
UNAVAILABLE_PAUSE_S = 2.0
"""Pause before an executor that did not answer is asked about a job again."""
REPORT_EVERY_S = 10.0
"""Time between two reports that an executor does not answer."""
MAX_ERRORS_AT_START = 5
MAX_ERRORS = 10
"""Number of errors of one attempt in a row after which it is ended; with their pauses they take about a minute."""
QUEUE_PAGE = 200
"""Number of waiting jobs that are read at once: reading all of 100,000 would take seconds."""
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
        lease: Lease,
        command: Command | None = None,
    ) -> None:
        self._settings, self._leased, self._executor, self._mlflow = settings, leased, executor, mlflow
        self._lease = lease
        self._watcher = JobWatcher(settings, jobs, leased, executor, mlflow, lease, command)
        self._watched: dict[str, WatchedAttempt] = {}
        self._retention = RetentionSchedule(settings)
        self._pauses = Pauses(settings.retry_delay_s)
        self._settle_at = 0.0
        self._orphans_at = 0.0
        self._report_at = 0.0

    def adopt(self) -> None:
        """Take over the active jobs of an earlier supervisor, stop orphaned attempts, and watch every attempt once.

        Raises:
            Superseded, LeaseLost: another supervisor has taken over; this one must exit at once.
        """
        self._lease.renew_if_due()
        for job in self._leased.adopt_all():
            log.info("job %s: adopted; attempt %d is %s", job.id, job.attempt, job.status)
        self._watch_all()

    def tick(self) -> None:
        """Do everything that can be done now, without waiting.

        Raises:
            Superseded, LeaseLost: another supervisor has taken over; this one must exit at once.
        """
        self._lease.renew_if_due()
        self._watch_all()
        self._start_jobs_that_fit()
        self._settle()
        self._retention.tick()

    def _watch_all(self) -> None:
        active = self._leased.active()
        self._end_orphans()
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
        self._lease.renew_if_due()
        try:
            self._watcher.watch(job, attempt)
            attempt.errors = 0
        except (LeaseLost, Superseded, StoreUnavailable):
            raise
        except CancelRequested as request:
            log.info("%s", request)
        except ExecutorUnavailable as error:
            # Nothing is known about the attempt, so nothing is decided about it, however long this lasts.
            attempt.paused_until = time.monotonic() + UNAVAILABLE_PAUSE_S
            log.warning("job %s: its attempt cannot be watched: %s", job.id, error)
        except Exception as error:  # whatever the error is, the other jobs continue
            attempt.errors += 1
            pause_s = min(MAX_PAUSE_S, self._settings.poll_s * 2**attempt.errors)
            attempt.paused_until = time.monotonic() + pause_s
            log.error("job %s: %s; next try in %.1f s", job.id, one_line(error), pause_s)
            is_starting = job.status is JobStatus.STARTING
            if attempt.errors >= (MAX_ERRORS_AT_START if is_starting else MAX_ERRORS):
                what = "start" if is_starting else "watch"
                attempt.given_up = f"the supervisor could not {what} the attempt: {one_line(error)}"

    def _start_jobs_that_fit(self) -> None:
        active = self._leased.active()
        try:
            capacity = self._executor.capacity()
        except ExecutorUnavailable as error:
            if time.monotonic() >= self._report_at:
                self._report_at = time.monotonic() + REPORT_EVERY_S
                log.warning("no job starts: %s", error)
            return
        if sum(job.resources[CPUS] for job in active) >= capacity[CPUS]:
            # Each job needs a core, so the queue need not be read.
            return
        starts = next_starts(self._queue_page, active, capacity, self._pauses.is_over)
        in_use = self._leased.gpu_ids_in_use() if starts else set()
        for chosen in starts:
            devices = self._executor.assign(chosen.resources, in_use)
            self._lease.renew_if_due()
            job = self._leased.claim(chosen.id, devices)
            if job is not None:
                self._pauses.forget(chosen)
                in_use |= set(devices)
                log.info("job %s: queued -> starting, attempt %d", job.id, job.attempt)
                self._watched[job.id] = WatchedAttempt(job.attempt)
                self._watch_job(job)

    def _queue_page(self, after: Job | None, within: ResourceCounts) -> list[Job]:
        return self._leased.queued(QUEUE_PAGE, after=after, within=within)

    def _settle(self) -> None:
        """Send the final statuses of ended jobs to MLflow, and record those that it has accepted."""
        for job_id, status in self._mlflow.take_closed().items():
            self._leased.settle(job_id, status)
        if time.monotonic() >= self._settle_at:
            self._settle_at = time.monotonic() + SETTLE_EVERY_S
            for job in self._leased.unsettled():
                assert job.mlflow_run_id is not None
                self._mlflow.close(job.id, job.mlflow_run_id, STATUS_OF_RUN[job.status])

    def _end_orphans(self) -> None:
        if time.monotonic() >= self._orphans_at:
            self._orphans_at = time.monotonic() + ORPHANS_EVERY_S
            try:
                self._executor.sweep_orphans(self._known_attempts(), self._settings.jobs_dir)
            except ExecutorUnavailable as error:
                log.warning("attempts of no job are not looked for: %s", error)

    def _known_attempts(self) -> Iterator[Path]:
        """Yield the folders of all active attempts; raises Superseded if another supervisor may have started more."""
        for job in self._leased.all_active():
            yield attempt_folder(self._settings, job)


def one_line(error: BaseException) -> str:
    """Return the type, the message and the source line of an error in one line."""
    message = " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {message}{where}"
