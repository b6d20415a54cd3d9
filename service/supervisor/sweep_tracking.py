"""The MLflow runs of sweeps: one for each sweep, with those of its trials below it.

All calls are made by the MLflow worker, which repeats them until they succeed; nothing here waits for MLflow.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pipelines.base.errors import ConfigError
from pipelines.run_folder.tracking_files import RunStatus
from pipelines.spec.sweep import SweepSpec, validate_sweep
from pipelines.tracking.sweep_runs import SWEEP_TAG, SweepRuns
from service.jobs.kinds.fit import FitKind
from service.states import SweepStatus
from service.store.records import Job
from service.store.sweep_leases import LeasedSweepStore
from service.store.sweep_records import Sweep, SweepTrial
from service.store.sweeps import SweepStore
from service.supervisor.mlflow_worker import MlflowWorker
from service.sweeps.trial_results import best_trial

STATUS_OF_SWEEP_RUN: dict[SweepStatus, RunStatus] = {
    SweepStatus.SUCCEEDED: "FINISHED",
    SweepStatus.FAILED: "FAILED",
    SweepStatus.CANCELLED: "KILLED",
}
TRIAL_TAG = "pyramidion.trial"
BEST_TAG = "pyramidion.best_trial"

Nested = tuple[str, dict[str, str]]
"""A run of a trial, and its tags."""


class SweepTracking:
    """Opens, fills and closes the runs of sweeps."""

    def __init__(self, worker: MlflowWorker, leased: LeasedSweepStore) -> None:
        self._worker, self._leased = worker, leased
        self._runs = SweepRuns(worker.store)
        self._opened: dict[str, str] = {}
        self._closed: dict[str, RunStatus] = {}
        self._requested: set[str] = set()
        """Names of calls that the worker makes or has made; it repeats them by itself."""

    def follow(self, sweep: Sweep, spec: SweepSpec, trials: Sequence[SweepTrial], jobs: Mapping[str, Job]) -> None:
        """Open the run of a sweep, and nest the new runs of its trials below it."""
        tracking = FitKind().tracking(spec.document)
        if tracking is None:
            return
        if sweep.mlflow_run_id is None:
            self._request(f"open sweep {sweep.id}", partial(self._open, sweep.id, tracking.experiment, sweep.name))
            return
        for run_id, tags in _runs_of(sweep, trials, jobs):
            self._request(f"nest {run_id}", partial(self._runs.nest, run_id, sweep.mlflow_run_id, tags))

    def _request(self, name: str, call: Callable[[], None]) -> None:
        if name not in self._requested:
            self._requested.add(name)
            self._worker.request(name, call)

    def settle(self, sweeps: SweepStore) -> None:
        """Record runs that were opened, and send the final statuses of ended sweeps to MLflow."""
        for sweep_id, run_id in list(self._opened.items()):
            self._leased.set_mlflow_run(sweep_id, run_id)
            del self._opened[sweep_id]
        for sweep_id, status in list(self._closed.items()):
            self._leased.settle(sweep_id, status)
            del self._closed[sweep_id]
        for sweep in self._leased.unsettled():
            name = f"close sweep {sweep.id}"
            if name not in self._requested:
                trials = sweeps.trials(sweep.id)
                nested = _runs_of(sweep, trials, self._leased.jobs(sweep))
                metrics, tags = _best_of(sweeps.config(sweep.id), trials)
                self._request(name, partial(self._close, sweep, nested, metrics, tags))

    def _open(self, sweep_id: str, experiment: str, run_name: str) -> None:
        self._opened[sweep_id] = self._runs.open(sweep_id, experiment, run_name)

    def _close(
        self, sweep: Sweep, nested: Sequence[Nested], metrics: Mapping[str, float], tags: Mapping[str, str]
    ) -> None:
        assert sweep.mlflow_run_id is not None
        for run_id, run_tags in nested:
            self._runs.nest(run_id, sweep.mlflow_run_id, run_tags)
        self._runs.close(sweep.mlflow_run_id, STATUS_OF_SWEEP_RUN[sweep.status], metrics, tags)
        self._closed[sweep.id] = STATUS_OF_SWEEP_RUN[sweep.status]


def _runs_of(sweep: Sweep, trials: Sequence[SweepTrial], jobs: Mapping[str, Job]) -> list[Nested]:
    """Return the known runs of a sweep's trials."""
    found: list[Nested] = []
    for trial in trials:
        job = jobs.get(trial.job_id or "")
        if job is not None and job.mlflow_run_id is not None:
            found.append((job.mlflow_run_id, {SWEEP_TAG: sweep.id, TRIAL_TAG: str(trial.number)}))
    return found


def _best_of(config: Mapping[str, Any], trials: Sequence[SweepTrial]) -> tuple[dict[str, float], dict[str, str]]:
    """Return the metrics and the tags of a sweep's run, which name the best trial."""
    try:
        spec = validate_sweep(config)
    except ConfigError:
        return {}, {}  # such a document, of another version, only lets a sweep be cancelled
    best = best_trial(spec, trials)
    if best is None or best.value is None:
        return {}, {}
    return {spec.metric or "": best.value}, {BEST_TAG: str(best.number)}
