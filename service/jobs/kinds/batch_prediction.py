"""Jobs that predict all images of a folder or a data set with a registered model. Torch-free."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.base.errors import ConfigError, FieldProblem, ModelFilesUnavailable
from pipelines.base.quantities import quantity
from pipelines.preflight import image_folder
from pipelines.run_folder.layout import RunDir
from pipelines.spec.batch_prediction import BatchPredictionResult, BatchPredictionSpec, validate_batch_prediction
from pipelines.spec.model_description import ModelDescription
from pipelines.tracking.mlflow_store import find_store
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import CHAMPION, Registry
from service.child_process import python_command
from service.datasets.usable import UsableDataset
from service.jobs.errors import InvalidJob, JobProblem
from service.jobs.kinds.base import CheckedDocument, JobKind
from service.resources import CPUS, ResourceCounts
from service.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

SHOWN_FAILED = 10
MAX_DEFAULT_CPUS = 4
"""More threads rarely predict faster, and keep other jobs waiting."""


class BatchPredictionKind(JobKind):
    """Predicts images; an attempt continues after the images that earlier attempts have finished."""

    name = "batch_prediction"
    document = BatchPredictionSpec
    result = BatchPredictionResult
    dataset_field = ("dataset",)
    asks_registry = True

    def check(
        self, config: Mapping[str, Any], settings: Settings, capacity: ResourceCounts, *, has_files: bool = True
    ) -> CheckedDocument:
        try:
            spec = validate_batch_prediction(config)
            if has_files:
                _require_folder(spec, settings)
        except ConfigError as error:
            raise InvalidJob(
                JobProblem(tuple(filter(None, problem.field.split("."))), problem.message) for problem in error.problems
            ) from error
        registry = Registry(find_store(settings.root))
        version = _find_version(spec, registry)
        _require_selection(spec, version, registry)
        pinned = {name: value for name, value in config.items() if name != "alias"} | {"version": version.version}
        return CheckedDocument(spec.name or name_of_job(spec.model), pinned)

    def dataset(self, config: Mapping[str, Any]) -> str | None:
        named = config.get("dataset")
        return named if isinstance(named, str) else None

    def with_dataset(self, config: Mapping[str, Any], dataset: UsableDataset) -> dict[str, Any]:
        folder = config.get("folder")
        if isinstance(folder, str) and folder != dataset.root and not folder.startswith(f"{dataset.root}/"):
            inside = f"{dataset.root}/{folder}"
        else:
            inside = folder if isinstance(folder, str) else dataset.root
        return {**config, "dataset": dataset.reference, "folder": inside}

    def command(self, run_dir: RunDir) -> tuple[str, ...]:
        arguments = ("--config", str(run_dir.job_yaml), "--run-dir", str(run_dir.path))
        return python_command("service.predictor.batch_process", *arguments)

    def models(self, config: Mapping[str, Any]) -> dict[tuple[str, ...], str]:
        """Return the model that predicts."""
        name = config.get("model")
        return {("model",): name} if isinstance(name, str) else {}

    def show_result(self, result: Mapping[str, Any], console: "Console") -> None:
        """Print the numbers of images and rows, and the first images without a prediction."""
        images = result["images"]
        lines = [f"{images['predicted']} of {images['total']} images predicted, {images['damaged']} of them damaged"]
        lines += [f"{task}: {quantity(found['num_rows'], 'row')}" for task, found in result["tasks"].items()]
        lines += [f"no prediction: {failed['file']} {failed['reason']}" for failed in result["failed"][:SHOWN_FAILED]]
        if (hidden := images["failed"] - SHOWN_FAILED) > 0:
            lines.append(f"and {hidden} more without a prediction, see images.csv")
        console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)

    def default_resources(self, capacity: ResourceCounts) -> dict[str, int]:
        """Return one GPU if the server has any, with its share of the cores, but at most `MAX_DEFAULT_CPUS`."""
        shared = super().default_resources(capacity)
        return {**shared, CPUS: min(MAX_DEFAULT_CPUS, shared[CPUS])}


def _require_folder(spec: BatchPredictionSpec, settings: Settings) -> None:
    try:
        image_folder(spec, settings.data_roots)
    except ConfigError as error:
        if spec.dataset is None:
            raise
        # The name of the folder on this server means nothing to a client.
        message = f"not found in the data set {spec.dataset}; name a folder in it, or leave it out for all its images"
        raise ConfigError(FieldProblem("folder", message)) from error


def _find_version(spec: BatchPredictionSpec, registry: Registry) -> ModelVersion:
    """Return the version that the document names, so that a later promotion does not change the job.

    Raises:
        InvalidJob: the registry has no such model, alias or version.
        RegistryError: the registry does not answer.
    """
    aliases = registry.aliases(spec.model)
    if aliases is None:
        raise _invalid("model", f"got {spec.model!r}, which is not registered; GET /v1/models lists all")
    number, alias = spec.version, spec.alias or CHAMPION
    if number is None and (number := aliases.get(alias)) is None:
        known = ", ".join(sorted(aliases)) or "no aliases"
        raise _invalid("alias", f"got {alias!r}, but {spec.model!r} has {known}; name one of them, or a `version`")
    if (version := registry.version(spec.model, number)) is None:
        message = f"got {number}, but {spec.model!r} has no such version; GET /v1/models/{spec.model} lists all"
        raise _invalid("version", message)
    return version


def _require_selection(spec: BatchPredictionSpec, version: ModelVersion, registry: Registry) -> None:
    """Raise InvalidJob if the model does not have the classes or the thresholds that the document asks for.

    The attempt checks this too: a retry is not checked here, and a model may be deleted and registered again under the
    same number.

    Raises:
        RegistryError: the registry does not answer.
    """
    if spec.classes is None and spec.threshold is None:
        return
    try:
        description = ModelDescription.parse(registry.read_description(version))
    except (ModelFilesUnavailable, ValueError):
        return  # the attempt reports everything that is wrong with the files of a model
    try:
        description.row_thresholds(spec.threshold, spec.classes)
    except ConfigError as error:
        raise InvalidJob(JobProblem((problem.field,), problem.message) for problem in error.problems) from error


def _invalid(field: str, message: str) -> InvalidJob:
    return InvalidJob([JobProblem((field,), message)])


def name_of_job(model: str) -> str:
    """Return the name of a model as the name of a job."""
    kept = "".join(mark if mark.isascii() and (mark.isalnum() or mark in "_.-") else "-" for mark in model)
    return kept.strip("_.-")[:64] or "predictions"
