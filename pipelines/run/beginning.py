"""A registered model that a new run begins from: looked up before anything starts, there while it is needed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pipelines.errors import ConfigError, FieldProblem, RegistryError
from pipelines.inference.init_from import FIELD, initialize_from
from pipelines.inference.saved import read_saved
from pipelines.model import MultiTaskModel
from pipelines.preflight import REGISTRY, Inputs, require_default_weights
from pipelines.ranks import is_rank_zero
from pipelines.records import DatasetIndex
from pipelines.run_folder.layout import RunDir, runs_root
from pipelines.spec.job import JobSpec
from pipelines.tracking.mlflow_store import find_store
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry


def with_version(inputs: Inputs) -> Inputs:
    """Return the inputs with the version that an alias points to now in its place.

    Raises:
        ConfigError: the registry has no such model, alias or version.
        RegistryError: MLflow does not answer.
    """
    if inputs.init_from is None or not inputs.init_from.startswith(REGISTRY):
        return inputs
    return replace(inputs, init_from=_version(inputs.init_from).uri)


@contextmanager
def registered_at_hand(inputs: Inputs, run_dir: RunDir) -> Iterator[None]:
    """Have the registered model that `inputs` name in `run_dir.init_from` meanwhile, copied by rank 0 alone: further
    ranks are started inside, and find it there."""
    if inputs.init_from is None or not inputs.init_from.startswith(REGISTRY) or not is_rank_zero():
        yield
        return
    shutil.rmtree(run_dir.init_from, ignore_errors=True)
    try:
        _download(inputs.init_from, run_dir.init_from)
        yield
    finally:
        shutil.rmtree(run_dir.init_from, ignore_errors=True)


def beginning(job: JobSpec, inputs: Inputs, model: MultiTaskModel, index: DatasetIndex) -> str:
    """Say what the job's network would take from elsewhere; a registered model is looked up, not fetched.

    Raises:
        ConfigError: it cannot be read, or nothing of it fits, or the weights for what it lacks may not be taken.
        RegistryError: MLflow does not answer.
    """
    if inputs.init_from is None:
        return ""
    if inputs.init_from.startswith(REGISTRY):
        return f"init_from {with_version(inputs).init_from}"
    report = initialize_from(
        model, read_saved(Path(inputs.init_from), FIELD), job.model, index.categories, inputs.init_from
    )
    if not report.is_whole("backbone"):
        require_default_weights(job.model.backbone)
    return "\n".join([str(report), *(f"warning: {doubt}" for doubt in report.warnings)])


def _version(uri: str) -> ModelVersion:
    name, number, alias = _parts(uri)
    registry = Registry(find_store(runs_root()))
    if registry.store.is_missing:
        raise ConfigError(FieldProblem(FIELD, f"got {uri!r}; there is no MLflow store {registry.store.label}"))
    try:
        version = registry.by_alias(name, alias) if number is None else registry.version(name, number)
        aliases = None if version else registry.aliases(name)
    except RegistryError as error:
        raise _not_started(uri, error) from error
    if version is not None:
        return version
    known = "no such model" if aliases is None else f"its aliases are {', '.join(sorted(aliases)) or '(none)'}"
    raise ConfigError(FieldProblem(FIELD, f"got {uri!r}; MLflow at {registry.store.label} has none: {known}"))


def _download(uri: str, folder: Path) -> None:
    version = _version(uri)
    try:
        exported = Registry(find_store(runs_root())).download_exported(version, folder.with_suffix(".partial"))
    except RegistryError as error:
        raise _not_started(uri, error) from error
    exported.replace(folder)
    shutil.rmtree(folder.with_suffix(".partial"), ignore_errors=True)


def _parts(uri: str) -> tuple[str, int | None, str]:
    """Return name, version or None, alias or nothing."""
    name, at, alias = uri.removeprefix(REGISTRY).partition("@")
    if at:
        return name, None, alias
    name, _, number = name.rpartition("/")
    return name, int(number), ""


def _not_started(uri: str, error: RegistryError) -> RegistryError:
    return RegistryError(f"{FIELD}: {uri} cannot be had, so that the run has not started; {error}")
