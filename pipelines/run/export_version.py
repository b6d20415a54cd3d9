"""An export of a registered version to another runtime, as a job."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from pipelines.base.errors import ConfigError, FieldProblem, RegistryError
from pipelines.export.report import export_metrics, write_report
from pipelines.export.variants import export_variant
from pipelines.inference.export import read_model_description
from pipelines.preflight import REGISTRY, Places
from pipelines.run.export_run import load_source, require_packages
from pipelines.run.folder_setup import locked
from pipelines.run.registered_weights import download_model
from pipelines.run.versions import package_versions
from pipelines.run_folder.events import EventLog, StageData, WarningData
from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.run_folder.files import remove_folder, write_atomic
from pipelines.run_folder.layout import ExportedModelDir, RunDir, runs_root
from pipelines.runtimes.variant import read_variant
from pipelines.spec.export_summary import result_lines
from pipelines.spec.exported_variant import ExportedVariant
from pipelines.spec.version_export import VersionExportResult, VersionExportSpec
from pipelines.tracking.evaluation_log import log_export_of_version
from pipelines.tracking.mlflow_store import find_store
from pipelines.tracking.registry import Registry


def export_version(spec: VersionExportSpec, run_dir: RunDir, data_roots: Sequence[Path]) -> None:
    """Export a version, add the export to it in MLflow, and write result.json.

    The process may be ended at any moment: the next one makes the export again, unless it was complete.

    Args:
        spec: the document.
        run_dir: of the job.
        data_roots: contain the data that the version was trained on.

    Raises:
        ConfigError: the version cannot be exported, or its data is not found.
        DataError: the data has errors, other classes than in training, or no images of a split that is scored.
        RegistryError: the model registry does not respond.
    """
    uri = f"{REGISTRY}{spec.model}/{spec.version}"
    with locked(run_dir), closing(EventLog(run_dir.events)) as events:
        exports = ExportsDir.of(run_dir.path)
        folder = exports.variant(spec.variant_name)
        if folder.description.is_file():
            variant = read_variant(folder.path)
        else:
            variant = _export(spec, uri, run_dir, data_roots, events)
        write_report(exports)
        events.write(StageData(stage="registering"))
        _register(spec, folder.path, variant, events)
        print("\n".join(result_lines(variant.result)), flush=True)
        if not variant.servable:
            events.write(WarningData(message=f"{variant.name} is not served: {variant.reason}"))
        result = VersionExportResult(
            model=spec.model,
            version=spec.version,
            export=variant.result,
            settings=spec.model_dump(mode="json", exclude_none=True),
            versions=package_versions(),
        )
        write_atomic(run_dir.result, result.model_dump_json(indent=1))
        remove_folder(run_dir.model)


def _export(
    spec: VersionExportSpec, uri: str, run_dir: RunDir, data_roots: Sequence[Path], events: EventLog
) -> ExportedVariant:
    require_packages(spec)
    events.write(StageData(stage="preparing", message=uri))
    if not ExportedModelDir(run_dir.model).description.is_file():
        download_model(uri, run_dir.model)
    job = read_model_description(run_dir.model).job
    if spec.root is not None:
        job = job.model_copy(update={"data": job.data.model_copy(update={"root": spec.root})})
    places = Places(data_roots, (), are_given=True)

    def report(step: str) -> None:
        events.write(StageData(stage="exporting", message=step))
        print(step, flush=True)

    source = load_source(run_dir, job, places, spec.splits)
    return export_variant(source, spec, ExportsDir.of(run_dir.path), report)


def _register(spec: VersionExportSpec, folder: Path, variant: ExportedVariant, events: EventLog) -> None:
    """Add the export to its version in MLflow, and its metrics to the run of the version."""
    store = find_store(runs_root())
    registry = Registry(store)
    try:
        version = registry.version(spec.model, spec.version)
        if version is None:
            message = f"got {spec.version}; it was deleted from MLflow at {store.label} during the export"
            raise ConfigError(FieldProblem("version", message))
        registry.add_export(version, folder, variant.result)
    except RegistryError as error:
        message = f"{variant.name} is complete, but {spec.model}, version {spec.version}, does not have it: {error}"
        raise RegistryError(f"{message}; another attempt of this job only adds it") from error
    if version.run_id is not None:
        metrics = export_metrics(variant.result)
        log_export_of_version(store, version.run_id, metrics, lambda text: events.write(WarningData(message=text)))
