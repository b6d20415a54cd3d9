"""The export of a run's model as an export of the versions that the run has registered. Torch-free."""

from collections.abc import Callable
from pathlib import Path

from pipelines.base.errors import ModelFilesUnavailable, RegistryError
from pipelines.base.ranks import print_rank_zero
from pipelines.run_folder.layout import RunDir
from pipelines.run_folder.tracking_files import TrackingState
from pipelines.spec.exported_variant import VariantResult
from pipelines.tracking.job_runs import run_of_trainer
from pipelines.tracking.mlflow_store import Store
from pipelines.tracking.registry import Registry


def add_to_versions(
    store: Store, run_dir: RunDir, folder: Path, result: VariantResult, warn: Callable[[str], None]
) -> None:
    """Add an export to the versions that a run has registered.

    Problems of MLflow, and a version that was registered in another store, are warnings.

    Args:
        store: the MLflow store.
        run_dir: of the run.
        folder: of the export.
        result: its entry in the report.
        warn: is called with the problem.
    """
    run_id = run_of_trainer(run_dir.path, store)
    if run_id is None:
        if run_dir.registration.is_file() and (state := TrackingState.read_if_valid(run_dir.tracking_state)):
            warn(
                f"the registered model does not have this export: it is in MLflow at {state.tracking_uri}, and this "
                f"command uses {store.label}; set MLFLOW_TRACKING_URI to the former, and repeat the export"
            )
        return
    registry = Registry(store)
    try:
        for version in registry.versions_of_runs([run_id]):
            registry.add_export(version, folder, result)
            print_rank_zero(f"added to {version.name}, version {version.version}")
    except (RegistryError, ModelFilesUnavailable) as error:
        advice = "; repeat the export when this is resolved" if isinstance(error, RegistryError) else ""
        warn(f"the registered model does not have this export: {error}{advice}")
