"""The export of a run's model as an export of the versions that the run has registered. Torch-free."""

from collections.abc import Callable
from pathlib import Path

from pipelines.base.errors import ModelFilesUnavailable, RegistryError
from pipelines.run_folder.layout import RunDir
from pipelines.spec.exported_variant import VariantResult
from pipelines.tracking.job_runs import run_of_trainer
from pipelines.tracking.mlflow_store import Store
from pipelines.tracking.registry import Registry


def add_to_versions(
    store: Store, run_dir: RunDir, folder: Path, result: VariantResult, warn: Callable[[str], None]
) -> None:
    """Add an export to the versions that a run has registered in this store; problems of MLflow are warnings.

    Args:
        store: the MLflow store.
        run_dir: of the run.
        folder: of the export.
        result: its entry in the report.
        warn: is called with the problem.
    """
    run_id = run_of_trainer(run_dir.path, store)
    if run_id is None:
        return
    registry = Registry(store)
    try:
        for version in registry.versions_of_runs([run_id]):
            registry.add_export(version, folder, result)
    except (RegistryError, ModelFilesUnavailable) as error:
        advice = "; repeat the export when this is resolved" if isinstance(error, RegistryError) else ""
        warn(f"the registered model does not have this export: {error}{advice}")
