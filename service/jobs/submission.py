"""Checks that turn a submission into a job that can run, or into a list of its problems."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.formats.source_split import SourceSplit
from pipelines.preflight import Places, preflight
from pipelines.spec.job import JobSpec
from pipelines.spec.load import validate_document
from service.jobs.document_paths import document_problems
from service.jobs.errors import InvalidJob, JobProblem
from service.resources import CPUS, GPUS, ResourceCounts
from service.settings import Settings
from service.store.records import NewJob


@dataclass(frozen=True)
class JobSubmission:
    """A job as a client submits it.

    Attributes:
        config: the job document.
        resources: counts by name; the server's default applies to those that are missing.
        timeout_s: time limit, from the start of the first attempt.
    """

    config: Mapping[str, Any]
    priority: int = 0
    resources: ResourceCounts = field(default_factory=dict)
    timeout_s: float | None = None


def check_submission(submission: JobSubmission, settings: Settings, capacity: ResourceCounts) -> NewJob:
    """Return the job to queue; raises InvalidJob with all problems."""
    config = dict(submission.config)
    problems = resource_problems(submission.resources, capacity)
    try:
        spec = validate_document(config)
        check_inputs(spec, settings)
        problems += _device_problems(spec, capacity)
    except ConfigError as error:
        problems = [*document_problems(error.problems, config), *problems]
    if problems:
        raise InvalidJob(problems)
    resources = {**default_resources(capacity), **submission.resources}
    return NewJob(
        name=spec.name,
        config=config,
        priority=submission.priority,
        cpus=resources[CPUS],
        gpus=resources[GPUS],
        timeout_s=submission.timeout_s,
    )


def default_resources(capacity: ResourceCounts) -> dict[str, int]:
    """Return the default resources of a job: one GPU if the server has any, with its share of the cores."""
    gpus = capacity.get(GPUS, 0)
    return {CPUS: max(1, capacity[CPUS] // max(1, gpus)), GPUS: min(1, gpus)}


def resource_problems(wanted: ResourceCounts, capacity: ResourceCounts) -> list[JobProblem]:
    """Return a problem for each resource that exceeds the server's capacity."""
    return [
        JobProblem(
            ("resources", name),
            f"got {count}; this server has {capacity.get(name, 0)} for all jobs together, "
            "so the job would wait forever",
        )
        for name, count in wanted.items()
        if count > capacity.get(name, 0)
    ]


def _device_problems(spec: JobSpec, capacity: ResourceCounts) -> list[JobProblem]:
    """Return a problem if the trainer would start more processes than the server has cores.

    Nothing else limits the number of CPU processes.
    """
    wanted, cpus = spec.trainer.devices, capacity[CPUS]
    if not isinstance(wanted, int) or wanted <= cpus:
        return []
    message = f"got {wanted}; each is a process, and this server has {cpus} cores for all jobs together"
    return [JobProblem(("config", "trainer", "devices"), message)]


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
