"""The source of the weights that a run starts from (`model.init_from`): looked up before anything starts, and provided
while the run needs it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from backbones.weights_sources.base import WeightsSource
from backbones.weights_sources.local_file import LocalFile
from backbones.weights_sources.rows import DETECTORS
from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.ranks import is_rank_zero
from pipelines.inference.init_from import FIELD
from pipelines.preflight import PUBLISHED, REGISTRY, Inputs
from pipelines.run.registered_weights import RegisteredWeights, find_version
from pipelines.run_folder.layout import RunDir


def init_source(init_from: str, run_dir: RunDir | None) -> WeightsSource:
    """Return the source that `Inputs.init_from` stands for; a registered model is copied to `run_dir`, if given."""
    if init_from.startswith(REGISTRY):
        return RegisteredWeights(init_from, run_dir.init_from if run_dir else None)
    if init_from.startswith(PUBLISHED):
        return DETECTORS[init_from.removeprefix(PUBLISHED)]
    return LocalFile(Path(init_from))


def pin_version(inputs: Inputs) -> Inputs:
    """Return the inputs with the alias of a registered model replaced by the version that it points to now.

    Raises:
        ConfigError: the registry has no such model, alias or version, or a file is neither here nor available.
        RegistryError: MLflow does not respond.
    """
    if inputs.init_from is None:
        return inputs
    if inputs.init_from.startswith(REGISTRY):
        return replace(inputs, init_from=find_version(inputs.init_from).uri)
    if problem := init_source(inputs.init_from, run_dir=None).problem():
        name = inputs.init_from.removeprefix(PUBLISHED)
        raise ConfigError(FieldProblem(FIELD, f"the weights of {name} are not on this machine: {problem}"))
    return inputs


@contextmanager
def provided_source(inputs: Inputs, run_dir: RunDir) -> Iterator[None]:
    """Provide the source that `inputs` name: a registered model in `run_dir` until the run ends, a detector in torch's
    cache. Without one, do nothing.

    Rank 0 downloads it; the other ranks are started inside and find it there.
    """
    if inputs.init_from is None or not is_rank_zero():
        yield
        return
    shutil.rmtree(run_dir.init_from, ignore_errors=True)
    try:
        init_source(inputs.init_from, run_dir).provide()
    except ValueError as error:
        raise ConfigError(FieldProblem(FIELD, str(error))) from error
    try:
        yield
    finally:
        shutil.rmtree(run_dir.init_from, ignore_errors=True)
