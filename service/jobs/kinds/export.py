"""Jobs that export a registered version to another runtime, and evaluate it there. Torch-free."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.base.errors import ConfigError, ModelFilesUnavailable
from pipelines.data.dataset.roots import find_root
from pipelines.run_folder.layout import RunDir
from pipelines.spec.export_summary import result_lines
from pipelines.spec.job import JobSpec
from pipelines.spec.model_description import ModelDescription
from pipelines.spec.version_export import VersionExportResult, VersionExportSpec, validate_version_export
from pipelines.tracking.mlflow_store import find_store
from pipelines.tracking.registry import Registry
from service.child_process import python_command
from service.datasets.usable import UsableDataset
from service.jobs.errors import InvalidJob, JobProblem
from service.jobs.kinds.base import CheckedDocument, JobKind
from service.jobs.kinds.batch_prediction import name_of_job
from service.resources import CPUS, GPUS, ResourceCounts
from service.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

MAX_DEFAULT_CPUS = 4


class ExportKind(JobKind):
    """Exports a version; an attempt repeats an export that was not complete."""

    name = "export"
    document = VersionExportSpec
    result = VersionExportResult
    dataset_field = ("dataset",)
    asks_registry = True

    def check(
        self, config: Mapping[str, Any], settings: Settings, capacity: ResourceCounts, *, has_files: bool = True
    ) -> CheckedDocument:
        try:
            spec = validate_version_export(config)
        except ConfigError as error:
            raise InvalidJob(
                JobProblem(tuple(filter(None, problem.field.split("."))), problem.message) for problem in error.problems
            ) from error
        trained = _document_of(spec, settings)
        if spec.dataset != trained.data.dataset:
            message = (
                f"got {spec.dataset!r}, but the version was trained on {trained.data.dataset!r}; write that"
                if trained.data.dataset
                else f"got {spec.dataset!r}, but the version was not trained on a data set of the service; remove it"
            )
            raise _invalid("dataset", message)
        _require_data(spec, trained, settings)
        return CheckedDocument(spec.name or name_of_job(spec.model), dict(config))

    def dataset(self, config: Mapping[str, Any]) -> str | None:
        named = config.get("dataset")
        return named if isinstance(named, str) else None

    def with_dataset(self, config: Mapping[str, Any], dataset: UsableDataset) -> dict[str, Any]:
        return {**config, "dataset": dataset.reference, "root": dataset.root}

    def command(self, run_dir: RunDir) -> tuple[str, ...]:
        arguments = ("--config", str(run_dir.job_yaml), "--run-dir", str(run_dir.path))
        return python_command("pipelines.version_export_cli", *arguments)

    def models(self, config: Mapping[str, Any]) -> dict[tuple[str, ...], str]:
        """Return the model whose version is exported."""
        name = config.get("model")
        return {("model",): name} if isinstance(name, str) else {}

    def show_result(self, result: Mapping[str, Any], console: "Console") -> None:
        """Print the metrics in torch and in the runtime, the times, and whether the export may be served."""
        found = VersionExportResult.model_validate(result).export
        lines = [f"{found.name} of {result['model']}, version {result['version']}", *result_lines(found)]
        if not found.servable:
            lines.append(found.reason)
        console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)

    def default_resources(self, capacity: ResourceCounts) -> dict[str, int]:
        """Return at most `MAX_DEFAULT_CPUS` cores: exports are made for CPUs."""
        return {CPUS: min(MAX_DEFAULT_CPUS, capacity[CPUS]), GPUS: 0}


def _document_of(spec: VersionExportSpec, settings: Settings) -> JobSpec:
    """Return the document that a version was trained with.

    Raises:
        InvalidJob: the registry has no such model or version, or its files are missing.
        RegistryError: the registry does not answer.
    """
    registry = Registry(find_store(settings.root))
    if registry.aliases(spec.model) is None:
        raise _invalid("model", f"got {spec.model!r}, which is not registered; GET /v1/models lists all")
    if (version := registry.version(spec.model, spec.version)) is None:
        message = f"got {spec.version}, but {spec.model!r} has no such version; GET /v1/models/{spec.model} lists all"
        raise _invalid("version", message)
    try:
        return ModelDescription.parse(registry.read_description(version)).job
    except (ModelFilesUnavailable, ValueError) as error:
        raise _invalid("version", f"got {spec.version}, which cannot be exported: {error}") from error


def _require_data(spec: VersionExportSpec, trained: JobSpec, settings: Settings) -> None:
    """Raise InvalidJob if the server does not have the data on which exports are compared with the version."""
    if spec.dataset is None and spec.root is not None:
        raise _invalid("root", f"got {spec.root!r}; remove it, because the version names its data")
    try:
        find_root(spec.root or trained.data.root, settings.data_roots)
    except ConfigError as error:
        message = (
            f"exports are evaluated on the val data of the version, which is not here: {error.problems[0].message}"
        )
        raise _invalid("version", message) from error


def _invalid(field: str, message: str) -> InvalidJob:
    return InvalidJob([JobProblem((field,), message)])
