"""The network of a job: built, and initialized from weights or from another model."""

from collections.abc import Callable

import torch
from torch import Tensor

from pipelines.base.ranks import print_rank_zero
from pipelines.base.records import DatasetIndex
from pipelines.inference.init_from import initialize_from, read_source
from pipelines.model import MultiTaskModel, build_model
from pipelines.preflight import Inputs, require_default_weights
from pipelines.run.init_source import init_source, pin_version
from pipelines.run_folder.layout import RunDir
from pipelines.spec.job import JobSpec
from pipelines.spec.model import ModelSpec
from pipelines.tasks.base import TaskSetup
from pipelines.tasks.tensors.runtime import runtime_of


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
        run_dir: contains a registered model, see `pipelines.run.init_source.provided_source`.
        warn: reports a warning.

    Raises:
        ConfigError: the weights do not fit the network.
    """
    if inputs.init_from is None:
        return create_network(job, index, inputs.weights)
    saved = read_source(init_source(inputs.init_from, run_dir).provide())
    network = create_network(job, index)
    report = initialize_from(network, saved, job.model, index.categories, inputs.init_from)
    if not report.is_whole("backbone") and inputs.weights != "none":
        require_default_weights(job.model.backbone)
        network = create_network(job, index, inputs.weights)
        report = initialize_from(network, saved, job.model, index.categories, inputs.init_from)
    print_rank_zero(str(report))
    for warning in report.warnings:
        warn(warning)
    return network


def describe_network(job: JobSpec, index: DatasetIndex, inputs: Inputs) -> tuple[MultiTaskModel, str]:
    """Return the network of a job as `initialized_network` would build it, and a text about `model.init_from`.

    Files of weights are read, so whatever is wrong with them is reported. Nothing is downloaded: a registered model is
    only looked up, and so is a published detector that is not cached.

    Raises:
        ConfigError: the weights or the other model cannot be read or do not fit, or may not be used.
        RegistryError: MLflow does not respond.
    """
    file = inputs.weights if inputs.weights not in ("none", "default") else "none"
    if inputs.init_from is None:
        return create_network(job, index, file), ""
    network = create_network(job, index)
    init_from = pin_version(inputs).init_from
    assert init_from is not None
    source = init_source(init_from, run_dir=None)
    if (path := source.path()) is None:
        return network, f"init_from {init_from}: {source.origin} is downloaded when the run starts"
    report = initialize_from(network, read_source(path), job.model, index.categories, init_from)
    if not report.is_whole("backbone"):
        require_default_weights(job.model.backbone)
        create_network(job, index, file)
    return network, "\n".join([str(report), *(f"warning: {warning}" for warning in report.warnings)])


def _class_weights(model: ModelSpec, index: DatasetIndex) -> dict[str, Tensor]:
    """Return the weights of the classes by task, for the tasks that have any."""
    weights = {}
    for name, task in model.tasks.items():
        setup = TaskSetup(name, task, index.categories[name])
        weights[name] = runtime_of(task).class_weights(setup, index.records.get("train", []))
    return {name: of_task for name, of_task in weights.items() if of_task is not None}
