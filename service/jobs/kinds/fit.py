"""Jobs that train a model: `pyramidion fit` on the job document. Torch-free."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.data.drafting.short_document import stand_in
from pipelines.evaluation.tables import print_results
from pipelines.formats.source_split import SourceSplit
from pipelines.preflight import REGISTRY, Places, preflight
from pipelines.run_folder.layout import RunDir
from pipelines.spec.job import JobSpec
from pipelines.spec.load import RECIPE, validate_document
from pipelines.spec.result import RunResult
from pipelines.spec.training import TrackingSpec
from service.child_process import python_command
from service.datasets.usable import UsableDataset
from service.jobs.document_paths import document_problems
from service.jobs.errors import InvalidJob, JobProblem
from service.jobs.kinds.base import CheckedDocument, JobKind
from service.resources import CPUS, NODES, ResourceCounts, available
from service.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console


class FitKind(JobKind):
    """Trains, evaluates and registers a model."""

    name = "fit"
    document = JobSpec
    result = RunResult
    has_dry_run = True

    def check(
        self, config: Mapping[str, Any], settings: Settings, capacity: ResourceCounts, *, has_files: bool = True
    ) -> CheckedDocument:
        document = dict(config)
        try:
            spec = validate_document(stand_in(document) if RECIPE in document else document)
            if has_files:
                check_inputs(spec, settings)
        except ConfigError as error:
            raise InvalidJob(document_problems(error.problems, document)) from error
        if problems := _device_problems(spec, capacity):
            raise InvalidJob(problems)
        if RECIPE in document:
            # The attempt completes the document, because that reads the data.
            document = {"name": spec.name, **document}
        return CheckedDocument(spec.name, document, spec.trainer.num_nodes)

    def dataset(self, config: Mapping[str, Any]) -> str | None:
        data = config.get("data")
        named = data.get("dataset") if isinstance(data, Mapping) else None
        return named if isinstance(named, str) else None

    def with_dataset(self, config: Mapping[str, Any], dataset: UsableDataset) -> dict[str, Any]:
        data: Mapping[str, Any] = config["data"]
        if data.get("root", dataset.root) != dataset.root:
            message = f"got {data['root']!r} beside data.dataset, which has files of its own; remove one of them"
            raise InvalidJob([JobProblem(("data", "root"), message)])
        if "sources" not in data and dataset.sources is None:
            message = (
                f"got {dataset.reference!r}, which has no labels; add data.sources, or upload labels with the images"
            )
            raise InvalidJob([JobProblem(self.dataset_field, message)])
        sources = data.get("sources", dataset.sources)
        return {**config, "data": {**data, "dataset": dataset.reference, "root": dataset.root, "sources": sources}}

    def command(self, run_dir: RunDir) -> tuple[str, ...]:
        return python_command("pipelines.cli", "fit", "--config", str(run_dir.job_yaml), "--run-dir", str(run_dir.path))

    def show_result(self, result: Mapping[str, Any], console: "Console") -> None:
        """Print the metrics of all tasks."""
        print_results(result["split"], result["tasks"], console)

    def models(self, config: Mapping[str, Any]) -> dict[tuple[str, ...], str]:
        """Return the model to initialize from, and the name under which the new model is registered."""
        found: dict[tuple[str, ...], str] = {}
        model, tracking = config.get("model"), config.get("tracking")
        source = model.get("init_from") if isinstance(model, Mapping) else None
        if isinstance(source, str) and source.startswith(REGISTRY):
            found["model", "init_from"] = re.split("[@/]", source.removeprefix(REGISTRY))[0]
        name = tracking.get("register_as") if isinstance(tracking, Mapping) else None
        if isinstance(name, str):
            found["tracking", "register_as"] = name
        return found

    def tracking(self, config: Mapping[str, Any]) -> TrackingSpec | None:
        """Return the tracking section of a document, even if the rest of the document is invalid."""
        tracking = config.get("tracking", {})
        return None if tracking is None else TrackingSpec.model_validate(tracking)


def _device_problems(spec: JobSpec, capacity: ResourceCounts) -> list[JobProblem]:
    """Return a problem if the trainer needs more nodes than the server has, or more processes than it has cores.

    Nothing else limits the number of CPU processes.
    """
    num_nodes, nodes = spec.trainer.num_nodes, available(capacity, NODES)
    if num_nodes > nodes:
        message = f"got {num_nodes}, but a job of this server runs on at most {nodes} node(s); write at most {nodes}"
        advice = ", or use a server whose executor starts jobs on several nodes" if nodes == 1 else ""
        return [JobProblem(("trainer", "num_nodes"), message + advice)]
    wanted, cpus = spec.trainer.devices, capacity[CPUS] // num_nodes
    if not isinstance(wanted, int) or wanted <= cpus:
        return []
    shared = "for all jobs together" if num_nodes == 1 else f"for each of {num_nodes} nodes"
    message = f"got {wanted} processes, but this server has {cpus} cores {shared}; write at most {cpus}"
    return [JobProblem(("trainer", "devices"), message)]


def check_inputs(spec: JobSpec, settings: Settings) -> None:
    """Raise ConfigError if a name in the document does not exist on this server or leads out of the allowed roots."""
    try:
        inputs = preflight(spec, Places(settings.data_roots, settings.weights_roots))
        if problems := list(_paths_outside(spec, inputs.data)):
            raise ConfigError(problems)
    except (OSError, RuntimeError) as error:
        # The cause is a name that is too long for the file system, or a link to itself.
        raise ConfigError(FieldProblem("", f"contains a path that cannot be read: {error}")) from error


def _paths_outside(spec: JobSpec, data: Path) -> Iterable[FieldProblem]:
    """Yield a problem for each path of a source that leads out of the data folder through `..` or a link."""
    for name, source in spec.data.sources.items():
        paths = {f"data.sources.{name}.images": source.images}
        if source.split_file is not None:
            paths[f"data.sources.{name}.split_file"] = source.split_file
        for number, layer in enumerate(source.labels):
            for field_name, path in layer.paths(source.images).items():
                paths[f"data.sources.{name}.labels.{number}.{field_name}"] = path
        for where, path in paths.items():
            for split in source.splits:
                try:
                    SourceSplit(data, name, source.images, source.splits, split).path(path)
                except ValueError as error:
                    yield FieldProblem(where, str(error))
                    break
