"""From what a client asks for to a job that can be run, or to all that is wrong with it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pipelines.errors import ConfigError, FieldProblem
from pipelines.formats.source_split import SourceSplit
from pipelines.preflight import Places, preflight
from pipelines.spec.job import JobSpec
from pipelines.spec.load import validate_document
from service.executors.base import Capacity
from service.rest.problems import Problem, pointer, things
from service.rest.schemas import JobRequest, ProblemField, ResourcesRequest
from service.settings import Settings
from service.store.records import NewJob

INVALID = "The job is not valid"


def new_job(request: JobRequest, settings: Settings, capacity: Capacity) -> NewJob:
    """Return the job that is asked for; raises Problem 422 with everything that is wrong."""
    errors = resource_errors(request.resources, capacity)
    try:
        spec = validate_document(request.config)
        check_inputs(spec, settings)
        errors += device_errors(spec, capacity)
    except ConfigError as error:
        errors = [*config_errors(error.problems, request.config), *errors]
    if errors:
        raise refusal(errors)
    cpus, gpus = default_resources(capacity)
    asked = request.resources
    return NewJob(
        name=spec.name,
        config=dict(request.config),
        priority=request.priority,
        cpus=cpus if asked.cpus is None else asked.cpus,
        gpus=gpus if asked.gpus is None else asked.gpus,
        timeout_s=asked.timeout_s,
    )


def refusal(errors: Sequence[ProblemField]) -> Problem:
    """Return the problem that tells errors of a job."""
    return Problem(422, INVALID, f"{things(len(errors))} wrong, see errors", errors)


def default_resources(capacity: Capacity) -> tuple[int, int]:
    """Return the cores and GPUs of a job that asks for none: one GPU where there is one, with its share of cores."""
    gpus = min(1, len(capacity.gpu_ids))
    return max(1, capacity.cpus // max(1, len(capacity.gpu_ids))), gpus


def resource_errors(asked: ResourcesRequest, capacity: Capacity) -> list[ProblemField]:
    """Return what is more than the server has."""
    errors = []
    for name, wanted, there in (("cpus", asked.cpus, capacity.cpus), ("gpus", asked.gpus, len(capacity.gpu_ids))):
        if wanted is not None and wanted > there:
            detail = f"got {wanted}; this server has {there} for all jobs together, so that the job would wait for ever"
            errors.append(ProblemField(pointer=pointer(("resources", name)), detail=detail))
    return errors


def device_errors(spec: JobSpec, capacity: Capacity) -> list[ProblemField]:
    """Return what is wrong with the number of the trainer's processes: each wants a core, and on the CPU nothing else
    holds them back."""
    wanted = spec.trainer.devices
    if not isinstance(wanted, int) or wanted <= capacity.cpus:
        return []
    detail = f"got {wanted}; each is a process, and this server has {capacity.cpus} cores for all jobs together"
    return [ProblemField(pointer=pointer(("config", "trainer", "devices")), detail=detail)]


def check_inputs(spec: JobSpec, settings: Settings) -> None:
    """Raise ConfigError where a name of the document stands for nothing here, or for something outside the roots."""
    try:
        inputs = preflight(spec, Places(settings.data_roots, settings.weights_roots))
        if problems := list(_ways_out(spec, inputs.data)):
            raise ConfigError(problems)
    except (OSError, RuntimeError) as error:
        # A name that is too long for the file system, a link that leads to itself.
        raise ConfigError(FieldProblem("", f"names a place that cannot be looked at: {error}")) from error


def _ways_out(spec: JobSpec, data: Path) -> Iterable[FieldProblem]:
    """Give a problem for each path of a source that leads out of the data's folder, by `..` or by a link."""
    for name, source in spec.data.sources.items():
        paths = {f"data.sources.{name}.images": source.images}
        for number, layer in enumerate(source.labels):
            for field, path in layer.paths(source.images).items():
                paths[f"data.sources.{name}.labels.{number}.{field}"] = path
        for field, path in paths.items():
            for split in source.splits:
                try:
                    SourceSplit(data, name, source.images, source.splits, split).path(path)
                except ValueError as error:
                    yield FieldProblem(field, str(error))
                    break


def config_errors(problems: Iterable[FieldProblem], config: dict[str, Any]) -> list[ProblemField]:
    """Return problems of a document with pointers into the body that holds it as `config`."""
    return [_located(problem, config) for problem in problems]


def _located(problem: FieldProblem, config: dict[str, Any]) -> ProblemField:
    keys = [*JobSpec.model_fields, *config]
    if problem.field and not any(f"{problem.field}.".startswith(f"{key}.") for key in keys):
        # A file of the data: no place of the document.
        return ProblemField(pointer=pointer(("config", "data")), detail=str(problem))
    path = _path(problem.field, config) if problem.field else []
    return ProblemField(pointer=pointer(("config", *path)), detail=problem.message)


def _path(dotted: str, node: Any) -> list[str]:
    """Return the keys of a dotted name; keys of the document may have dots themselves."""
    if isinstance(node, dict):
        ways = [
            [key, *_path(dotted[len(key) + 1 :], value)] if len(dotted) > len(key) else [key]
            for key, value in node.items()
            if dotted == key or dotted.startswith(f"{key}.")
        ]
        if ways:
            # The way with the fewest keys has the longest ones: what is left at its end was not cut at dots.
            return min(ways, key=len)
    if isinstance(node, list) and (head := dotted.split(".")[0]).isdecimal() and int(head) < len(node):
        rest = dotted[len(head) + 1 :]
        return [head, *_path(rest, node[int(head)])] if rest else [head]
    return dotted.split(".")
