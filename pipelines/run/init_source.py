"""The model that a run starts from (`model.init_from`): looked up before anything starts, downloaded if needed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from backbones.published_detectors import (
    download_published,
    publication_problem,
    published_file,
)
from pipelines.base.errors import ConfigError, FieldProblem, ModelFilesUnavailable, RegistryError
from pipelines.base.ranks import is_rank_zero
from pipelines.inference.init_from import FIELD
from pipelines.preflight import PUBLISHED, REGISTRY, Inputs
from pipelines.run_folder.files import rename_synced
from pipelines.run_folder.layout import RunDir, runs_root
from pipelines.tracking.mlflow_store import find_store
from pipelines.tracking.model_owners import is_hidden, tenant_of_run
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry


def pin_version(inputs: Inputs) -> Inputs:
    """Return the inputs with the alias of a registered model replaced by the version that it points to now.

    Raises:
        ConfigError: the registry has no such model, alias or version, or a published detector is not available.
        RegistryError: MLflow does not respond.
    """
    require_published(inputs)
    if inputs.init_from is None or not inputs.init_from.startswith(REGISTRY):
        return inputs
    return replace(inputs, init_from=_find_version(inputs.init_from).uri)


@contextmanager
def downloaded_model(inputs: Inputs, run_dir: RunDir) -> Iterator[None]:
    """Keep a copy of the registered model that `inputs` name in `run_dir.init_from`, or of a published detector in
    torch's cache; without one, do nothing.

    Rank 0 downloads it; the other ranks are started inside and find it there.
    """
    if inputs.init_from is not None and inputs.init_from.startswith(PUBLISHED) and is_rank_zero():
        try:
            download_published(inputs.init_from.removeprefix(PUBLISHED))
        except ValueError as error:
            raise ConfigError(FieldProblem(FIELD, str(error))) from error
    if inputs.init_from is None or not inputs.init_from.startswith(REGISTRY) or not is_rank_zero():
        yield
        return
    shutil.rmtree(run_dir.init_from, ignore_errors=True)
    try:
        download_model(inputs.init_from, run_dir.init_from)
        yield
    finally:
        shutil.rmtree(run_dir.init_from, ignore_errors=True)


def source_path(init_from: str, run_dir: RunDir | None) -> Path:
    """Return the file or folder that `Inputs.init_from` stands for; a registered model is in `run_dir`."""
    if init_from.startswith(REGISTRY):
        assert run_dir is not None
        return run_dir.init_from
    if init_from.startswith(PUBLISHED):
        return published_file(init_from.removeprefix(PUBLISHED))
    return Path(init_from)


def require_published(inputs: Inputs) -> None:
    """Raise ConfigError if `inputs` name a published detector that is neither cached nor available."""
    if inputs.init_from is None or not inputs.init_from.startswith(PUBLISHED):
        return
    if problem := publication_problem(inputs.init_from.removeprefix(PUBLISHED)):
        raise ConfigError(FieldProblem(FIELD, problem))


def _find_version(uri: str) -> ModelVersion:
    name, number, alias = _split(uri)
    registry = Registry(find_store(runs_root()))
    if registry.store.is_missing:
        raise ConfigError(FieldProblem(FIELD, f"got {uri!r}; the MLflow store {registry.store.label} does not exist"))
    try:
        if is_hidden(registry, name, tenant_of_run()):
            version = aliases = None
        else:
            version = registry.by_alias(name, alias) if number is None else registry.version(name, number)
            aliases = None if version else registry.aliases(name)
    except RegistryError as error:
        raise _unavailable(uri, error) from error
    if version is not None:
        return version
    known = "the model is not registered"
    if aliases is not None:
        known = f"the model's aliases are {', '.join(sorted(aliases)) or '(none)'}"
    raise ConfigError(FieldProblem(FIELD, f"got {uri!r}, which is not in MLflow at {registry.store.label}; {known}"))


def download_model(uri: str, folder: Path) -> None:
    """Copy the exported model of a registered version to a folder, which then is complete.

    Raises:
        ConfigError: the registry does not have the version.
        RegistryError: MLflow does not respond.
    """
    version = _find_version(uri)
    try:
        exported = Registry(find_store(runs_root())).download_exported(version, folder.with_suffix(".partial"))
    except ModelFilesUnavailable as error:
        raise ConfigError(FieldProblem(FIELD, f"got {uri!r}; {error}")) from error
    except RegistryError as error:
        raise _unavailable(uri, error) from error
    rename_synced(exported, folder)
    shutil.rmtree(folder.with_suffix(".partial"), ignore_errors=True)


def _split(uri: str) -> tuple[str, int | None, str]:
    """Return the name, the version if the URI has one, and the alias otherwise."""
    name, at, alias = uri.removeprefix(REGISTRY).partition("@")
    if at:
        return name, None, alias
    name, _, number = name.rpartition("/")
    return name, int(number), ""


def _unavailable(uri: str, error: RegistryError) -> RegistryError:
    return RegistryError(f"{FIELD}: {uri} is not available, so the run was not started; {error}")
