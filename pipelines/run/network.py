"""The network of a job: built, and initialized from weights or from another model."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from pipelines.data.loading.targets import balanced_class_weights
from pipelines.errors import ConfigError, FieldProblem
from pipelines.inference.init_from import FIELD, begin_from
from pipelines.inference.saved import read_saved
from pipelines.model import MultiTaskModel, build_model
from pipelines.preflight import REGISTRY, Inputs, require_default_weights
from pipelines.ranks import print_rank_zero
from pipelines.records import DatasetIndex
from pipelines.run_folder.layout import RunDir
from pipelines.spec.job import JobSpec
from pipelines.spec.model import ModelSpec
from pipelines.spec.tasks import ClassificationSpec


def create_network(job: JobSpec, index: DatasetIndex, weights: str = "none") -> MultiTaskModel:
    """Return the network of a job; its random weights depend on the job's seed only.

    Args:
        job: the document.
        index: its data: the classes, and the training labels for balanced class weights.
        weights: of the backbone: `default`, `none`, or the path of a weights file.

    Raises:
        ConfigError: the weights do not fit, or `class_weights` names classes that the data lacks.
    """
    class_weights = _class_weights(job.model, index)
    torch.manual_seed(job.seed_everything)
    return build_model(job.model, index.categories, class_weights=class_weights, weights=weights)


def initialized_network(
    job: JobSpec, index: DatasetIndex, inputs: Inputs, run_dir: RunDir, warn: Callable[[str], None]
) -> MultiTaskModel:
    """Return the network of a job with the weights that a new run starts from.

    `model.backbone.weights` are read only if there is no `model.init_from`, or if it lacks a part of the backbone.

    Args:
        job: the document.
        index: its data.
        inputs: what the names in the document refer to.
        run_dir: contains a registered model, see `pipelines.run.init_source.downloaded_model`.
        warn: reports a warning.

    Raises:
        ConfigError: the weights do not fit the network.
    """
    if inputs.init_from is None:
        return create_network(job, index, inputs.weights)
    is_registered = inputs.init_from.startswith(REGISTRY)
    saved = read_saved(run_dir.init_from if is_registered else Path(inputs.init_from), FIELD)
    network = create_network(job, index)
    report = begin_from(network, saved, job.model, index.categories, inputs.init_from)
    if not report.is_whole("backbone") and inputs.weights != "none":
        require_default_weights(job.model.backbone)
        network = create_network(job, index, inputs.weights)
        report = begin_from(network, saved, job.model, index.categories, inputs.init_from)
    print_rank_zero(str(report))
    for warning in report.warnings:
        warn(warning)
    return network


def _class_weights(model: ModelSpec, index: DatasetIndex) -> dict[str, Tensor]:
    """Return the weights of the classes by task, for the tasks that have any."""
    weights: dict[str, Tensor] = {}
    for name, task in model.tasks.items():
        if not isinstance(task, ClassificationSpec) or task.class_weights == "none":
            continue
        categories = index.categories[name]
        if task.class_weights == "balanced":
            weights[name] = balanced_class_weights(index.records["train"], name, categories)
            continue
        names = [category.name for category in categories]
        assert isinstance(task.class_weights, Mapping)
        if unknown := sorted(set(task.class_weights) - set(names)):
            field = f"model.tasks.{name}.class_weights"
            raise ConfigError(FieldProblem(field, f"got {unknown}; the classes of the data are {names}"))
        weights[name] = torch.tensor([float(task.class_weights.get(c, 1.0)) for c in names])
    return weights
