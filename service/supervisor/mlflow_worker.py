"""A thread that calls MLflow for the supervisor, because importing MLflow takes seconds and any call may hang.

No method here waits for MLflow or raises its errors. A call that fails is repeated until it succeeds.
"""

import logging
import threading
from collections.abc import Callable
from functools import partial

from pipelines.run_folder.tracking_files import RunStatus
from pipelines.tracking.job_runs import JobRuns
from pipelines.tracking.mlflow_store import one_line

LONGEST_PAUSE_S = 60.0
PAUSE_OF_OPEN_S = 1.0
"""Pause before a failed call is repeated while a job waits for its run."""

log = logging.getLogger(__name__)


class MlflowWorker:
    """Opens and closes the MLflow runs of jobs.

    Args:
        runs: used only by the worker's thread, which starts at the first call and ends with the process.
    """

    def __init__(self, runs: JobRuns) -> None:
        self.store = runs.store
        self._runs = runs
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._calls: dict[str, Callable[[], None]] = {}
        self._wanted: set[str] = set()
        self._opened: dict[str, str] = {}
        self._closed: dict[str, RunStatus] = {}
        self._failures = 0

    def open(self, job_id: str, experiment: str, run_name: str) -> None:
        """Request a run for a job; `opened` returns it some time later."""
        with self._changed:
            if job_id not in self._opened and job_id not in self._wanted:
                self._wanted.add(job_id)
                self._add(f"open {job_id}", partial(self._open, job_id, experiment, run_name))

    def opened(self, job_id: str) -> str | None:
        """Return the requested run until `take` or `withdraw`; None if it is not open yet."""
        with self._changed:
            return self._opened.get(job_id)

    def take(self, job_id: str) -> None:
        """Forget a run that was opened, because the caller has recorded it."""
        with self._changed:
            self._opened.pop(job_id, None)

    def withdraw(self, job_id: str) -> None:
        """Withdraw the request; a run that is opened nevertheless is discarded, so that no job has two."""
        with self._changed:
            self._wanted.discard(job_id)
            self._calls.pop(f"open {job_id}", None)
            if run_id := self._opened.pop(job_id, None):
                self._add(f"discard {run_id}", partial(self._runs.discard, run_id))

    def close(self, job_id: str, run_id: str, status: RunStatus) -> None:
        """Request the final status of a run; `take_closed` returns it some time later."""
        with self._changed:
            if job_id not in self._closed:
                self._add(f"close {job_id}", partial(self._close, job_id, run_id, status))

    def request(self, name: str, call: Callable[[], None]) -> None:
        """Request another call, which may be repeated; it is dropped if one of this name has not been made yet."""
        with self._changed:
            self._add(name, call)

    def take_closed(self) -> dict[str, RunStatus]:
        """Return the final statuses that were set since the last call, keyed by job."""
        with self._changed:
            closed, self._closed = self._closed, {}
            return closed

    def _add(self, name: str, call: Callable[[], None]) -> None:
        if name not in self._calls:
            self._calls[name] = call
            self._changed.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._calls:
                    self._changed.wait()
                elif self._failures:
                    self._changed.wait(self._pause_s())
                # Runs to open come first, because jobs wait for them.
                name = min(self._calls, key=lambda name: not name.startswith("open"), default=None)
                call = self._calls.pop(name, None) if name else None
            if name and call:
                self._do(name, call)

    def _do(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # no error of MLflow may end the thread
            if not self._failures:
                log.warning(
                    "MLflow at %s fails: %s; the call is repeated until it succeeds", self.store.label, one_line(error)
                )
            self._failures += 1
            with self._changed:
                # Last in the queue, since other calls may succeed.
                self._calls.setdefault(name, call)
        else:
            if self._failures:
                log.info("MLflow at %s answers again", self.store.label)
            self._failures = 0

    def _pause_s(self) -> float:
        return PAUSE_OF_OPEN_S if self._wanted else min(LONGEST_PAUSE_S, 2.0**self._failures)

    def _open(self, job_id: str, experiment: str, run_name: str) -> None:
        if job_id not in self._wanted:
            return
        run_id = self._runs.open(job_id, experiment, run_name)
        with self._changed:
            if job_id in self._wanted:
                self._wanted.discard(job_id)
                self._opened[job_id] = run_id
            else:
                self._add(f"discard {run_id}", partial(self._runs.discard, run_id))

    def _close(self, job_id: str, run_id: str, status: RunStatus) -> None:
        self._runs.close(run_id, status)
        with self._changed:
            self._closed[job_id] = status
