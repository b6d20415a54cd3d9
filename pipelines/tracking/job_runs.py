"""MLflow runs of the service's jobs: one per job, with a final status that the service sets. Torch-free."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.run_folder.layout import RunDir
from pipelines.run_folder.tracking_files import RunStatus, TrackingState
from pipelines.tracking.mlflow_store import Store, connect, find_run

if TYPE_CHECKING:
    from mlflow import MlflowClient

JOB_TAG = "pyramidion.job_id"


class JobRuns:
    """Creates and ends the runs of jobs.

    The first call imports MLflow, which takes seconds, and any call may block for long. All methods raise MLflow's
    exceptions, and can be called again until they succeed.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    @cached_property
    def _client(self) -> "MlflowClient":
        return connect(self.store)

    def open(self, job_id: str, experiment: str, run_name: str) -> str:
        """Return the id of the run with the job's tag; it is created if it does not exist."""
        return find_run(self._client, self.store, experiment, run_name, (JOB_TAG, job_id))

    def close(self, run_id: str, status: RunStatus) -> None:
        """Set the final status of a run; do nothing if the run was deleted."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.set_terminated(run_id, status)
        except MlflowException as error:
            if not is_gone(self._client, run_id):
                raise error

    def discard(self, run_id: str) -> None:
        """Delete a run that was created too late to be used."""
        if not is_gone(self._client, run_id):
            self._client.delete_run(run_id)


def run_of_trainer(run_dir: Path, store: Store) -> str | None:
    """Return the id of the run that a trainer created or adopted in this store; None until it is known."""
    state = TrackingState.read_if_valid(RunDir.of(run_dir).tracking_state)
    return state.run_id if state is not None and state.tracking_uri == store.label else None


def is_gone(client: "MlflowClient", run_id: str) -> bool:
    """Return whether a run was deleted."""
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run_id).info.lifecycle_stage != "active")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return True
