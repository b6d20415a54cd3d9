"""MLflow runs of sweeps: the parent of the trials' runs, with the best trial. Torch-free."""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from pipelines.run_folder.tracking_files import RunStatus
from pipelines.tracking.job_runs import is_gone
from pipelines.tracking.mlflow_store import Store, connect, find_run

if TYPE_CHECKING:
    from mlflow import MlflowClient

SWEEP_TAG = "pyramidion.sweep_id"
PARENT_TAG = "mlflow.parentRunId"
"""The tag by which MLflow nests runs."""


class SweepRuns:
    """Creates and ends the runs of sweeps; like those of `JobRuns`, all calls can be repeated until they succeed."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @cached_property
    def _client(self) -> "MlflowClient":
        return connect(self.store)

    def open(self, sweep_id: str, experiment: str, run_name: str) -> str:
        """Return the id of the run with the sweep's tag; it is created if it does not exist."""
        return find_run(self._client, self.store, experiment, run_name, (SWEEP_TAG, sweep_id))

    def nest(self, run_id: str, parent_id: str, tags: Mapping[str, str]) -> None:
        """Put the run of a trial below that of its sweep; do nothing if it was deleted."""
        if not is_gone(self._client, run_id):
            for name, text in {PARENT_TAG: parent_id, **tags}.items():
                self._client.set_tag(run_id, name, text)

    def close(self, run_id: str, status: RunStatus, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Set the final status of a sweep's run with the numbers of its best trial; do nothing if it was deleted."""
        if is_gone(self._client, run_id):
            return
        for name, number in metrics.items():
            self._client.log_metric(run_id, name, number)
        for name, text in tags.items():
            self._client.set_tag(run_id, name, text)
        self._client.set_terminated(run_id, status)
