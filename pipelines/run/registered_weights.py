"""Weights of a model that is registered in MLflow."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from backbones.weights_sources.base import WeightsSource
from pipelines.base.errors import ConfigError, FieldProblem, ModelFilesUnavailable, RegistryError
from pipelines.inference.init_from import FIELD
from pipelines.preflight import REGISTRY
from pipelines.run_folder.files import rename_synced
from pipelines.run_folder.layout import runs_root
from pipelines.tracking.mlflow_store import find_store
from pipelines.tracking.model_owners import is_hidden, tenant_of_run
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry


@dataclass(frozen=True)
class RegisteredWeights(WeightsSource):
    """The exported model of a version, which is copied to a folder while a run needs it.

    Its methods raise RegistryError if MLflow does not respond, which may pass: the run can be repeated as it is.

    Attributes:
        uri: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        folder: the copy; None: the model is only looked up.
    """

    kind: ClassVar[str] = "MLflow model"

    uri: str
    folder: Path | None
    license: str | None = None
    sha256: str | None = None

    @property
    def cache(self) -> Path | None:
        return self.folder and self.folder.parent

    @property
    def file_name(self) -> str:
        return self.folder.name if self.folder else self.uri.removeprefix(REGISTRY).replace("/", "-")

    @property
    def origin(self) -> str:
        return self.uri

    def path(self) -> Path | None:
        return self.folder if self.folder and self.folder.is_dir() else None

    def problem(self) -> str | None:
        if self.path() is not None:
            return None
        try:
            find_version(self.uri)
        except ConfigError as error:
            return error.problems[0].message
        return None

    def download(self, folder: Path) -> Path:
        target = folder / self.file_name
        try:
            download_model(self.uri, target)
        except ConfigError as error:
            raise ValueError(error.problems[0].message) from error
        return target


def find_version(uri: str) -> ModelVersion:
    """Return the version that an alias or a number stands for now.

    Raises:
        ConfigError: the registry has no such model, alias or version.
        RegistryError: MLflow does not respond.
    """
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
    known = "the model is not registered; write the name of a registered one, or of a file"
    if aliases is not None:
        known = f"the model's aliases are {', '.join(sorted(aliases)) or '(none)'}; write one of them, or a version"
    raise ConfigError(FieldProblem(FIELD, f"got {uri!r}, which is not in MLflow at {registry.store.label}; {known}"))


def download_model(uri: str, folder: Path) -> None:
    """Copy the exported model of a registered version to a folder, which then is complete.

    Raises:
        ConfigError: the registry does not have the version.
        RegistryError: MLflow does not respond.
    """
    version = find_version(uri)
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
