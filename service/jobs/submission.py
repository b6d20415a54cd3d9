"""Checks that turn a submission into a job that can run, or into a list of its problems."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from service.datasets.resolution import DatasetUnusable, data_roots_of_jobs, dataset_of_images
from service.datasets.usable import UsableDataset
from service.jobs.errors import InvalidJob, JobProblem
from service.jobs.kinds.base import JobKind
from service.jobs.kinds.fit import FitKind
from service.jobs.kinds.registry import job_kind
from service.resources import CPUS, GPUS, NODES, ResourceCounts, available, gpu_types, on_largest_node
from service.settings import Settings
from service.store.dataset_records import JobImages
from service.store.records import NewJob

FindDataset = Callable[[str], UsableDataset]


@dataclass(frozen=True)
class JobSubmission:
    """A job as a client submits it.

    Attributes:
        config: the document.
        resources: counts by name on each node; the default of the job's kind applies to those that are missing.
        timeout_s: time limit, from the start of the first attempt.
        kind: see `service.jobs.kinds.registry`.
        config_at: the path of the document in the request, for problems.
        images: images that are uploaded with the job; the document names no data set then.
        gpu_type: type of its GPUs, as the executor names it; None for any.
    """

    config: Mapping[str, Any]
    priority: int = 0
    resources: ResourceCounts = field(default_factory=dict)
    timeout_s: float | None = None
    kind: str = FitKind.name
    config_at: tuple[str, ...] = ("config",)
    images: JobImages | None = None
    gpu_type: str | None = None


def check_submission(
    submission: JobSubmission, settings: Settings, capacity: ResourceCounts, datasets: FindDataset
) -> NewJob:
    """Return the job to queue.

    Args:
        submission: the job.
        settings: of the service.
        capacity: the resources of the service.
        datasets: returns the data set that a document names, or raises DatasetUnusable.

    Raises:
        InvalidJob: with all problems.
        RegistryError: the model registry does not answer.
    """
    kind = job_kind(submission.kind)
    problems = resource_problems(submission.resources, capacity)
    try:
        config, roots, dataset_id = submission.config, settings, None
        dataset: UsableDataset | None = None
        if submission.images is not None:
            dataset = dataset_of_images(submission.images.version)
        elif (named := kind.dataset(config)) is not None:
            dataset = _find_dataset(named, kind, datasets)
            dataset_id = dataset.id
        if dataset is not None:
            config = kind.with_dataset(config, dataset)
            roots = settings.model_copy(update={"data_roots": data_roots_of_jobs(settings)})
        checked = kind.check(config, roots, capacity, has_files=submission.images is None)
    except InvalidJob as error:
        located = [problem.below(*submission.config_at) for problem in error.problems]
        raise InvalidJob([*located, *problems]) from error
    resources = {**kind.default_resources(on_largest_node(capacity)), **submission.resources}
    problems = problems or resource_problems(resources, capacity, checked.num_nodes)
    if problems := problems or gpu_type_problems(submission.gpu_type, resources[GPUS], capacity, checked.num_nodes):
        raise InvalidJob(problems)
    return NewJob(
        name=checked.name,
        config=checked.config,
        priority=submission.priority,
        cpus=resources[CPUS],
        gpus=resources[GPUS],
        timeout_s=submission.timeout_s,
        kind=kind.name,
        dataset_id=dataset_id,
        images=submission.images,
        num_nodes=checked.num_nodes,
        gpu_type=submission.gpu_type,
    )


def check_variant(checked: NewJob, config: Mapping[str, Any], settings: Settings, capacity: ResourceCounts) -> NewJob:
    """Return a job that differs from a checked one by its document, which has the same data set.

    Raises:
        InvalidJob: with all problems; their paths start at the document.
    """
    roots = settings
    if checked.dataset_id is not None:
        roots = settings.model_copy(update={"data_roots": data_roots_of_jobs(settings)})
    found = job_kind(checked.kind).check(config, roots, capacity)
    if problems := resource_problems({CPUS: checked.cpus, GPUS: checked.gpus}, capacity, found.num_nodes):
        raise InvalidJob(problems)
    return replace(checked, name=found.name, config=found.config, num_nodes=found.num_nodes)


def _find_dataset(named: str, kind: JobKind, datasets: FindDataset) -> UsableDataset:
    try:
        return datasets(named)
    except DatasetUnusable as error:
        raise InvalidJob([JobProblem(kind.dataset_field, str(error))]) from error


def resource_problems(per_node: ResourceCounts, capacity: ResourceCounts, num_nodes: int = 1) -> list[JobProblem]:
    """Return a problem for each resource that a job requests beyond the server's capacity.

    Args:
        per_node: the resources on each node.
        capacity: of the server.
        num_nodes: number of nodes of the job.
    """
    nodes = available(capacity, NODES)
    if num_nodes > nodes:
        return [JobProblem(("resources", NODES), f"got {num_nodes}, but a job of this server runs on at most {nodes}")]
    return [
        JobProblem(("resources", name), _excess(count, available(capacity, name), num_nodes))
        for name, count in per_node.items()
        if count * num_nodes > available(capacity, name)
    ] + [
        JobProblem(("resources", name), f"got {per_node[name]}, but no node of the cluster has more than {limit}")
        for name, limit in on_largest_node(capacity).items()
        if limit < per_node.get(name, 0) <= available(capacity, name) // num_nodes
    ]


def gpu_type_problems(
    gpu_type: str | None, gpus: int, capacity: ResourceCounts, num_nodes: int = 1
) -> list[JobProblem]:
    """Return a problem if a job requests GPUs of a type of which the server has too few.

    Args:
        gpu_type: the type; None for any.
        gpus: number of GPUs on each node.
        capacity: of the server.
        num_nodes: number of nodes of the job.
    """
    if gpu_type is None:
        return []
    known = gpu_types(capacity)
    if gpu_type not in known:
        choices = f"choose one of {', '.join(known)}" if known else "the executor of this server knows no types"
        message = f"got {gpu_type!r}; {choices}"
    elif gpus == 0:
        message = f"got {gpu_type!r}, but the job requests no GPU; set gpus too"
    elif gpus * num_nodes > known[gpu_type]:
        message = f"got {gpu_type!r}, of which this server has {known[gpu_type]}, but the job needs {gpus * num_nodes}"
    else:
        return []
    return [JobProblem(("resources", "gpu_type"), message)]


def _excess(count: int, limit: int, num_nodes: int) -> str:
    got, most = f"got {count}", f"{limit // num_nodes}"
    if num_nodes > 1:
        got, most = f"{got} for each of {num_nodes} nodes", f"{most} for each node"
    return (
        f"{got}, but this server has {limit} for all jobs together, so the job would wait forever; request at most "
        f"{most}"
    )
