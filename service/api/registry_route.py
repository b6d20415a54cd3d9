"""Routes that ask the model registry. Torch-free."""

from typing import Annotated, cast

from fastapi import Depends, Path, Query, Request

from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import CHAMPION, Registry
from service.api.limits import JsonRoute
from service.api.thread_pools import Work
from service.rest.problems import Problem


class RegistryRoute(JsonRoute):
    """A route that asks MLflow."""

    work = Work.REGISTRY


async def _registry(request: Request) -> Registry:
    return cast(Registry, request.app.state.registry)


ModelName = Annotated[str, Path(description="name of a model")]
ChosenAlias = Annotated[str | None, Query(description=f"alias of a version; by default {CHAMPION}")]
ChosenVersion = Annotated[int | None, Query(ge=1, le=2**31 - 1, description="number of a version, instead of an alias")]
RegistryDep = Annotated[Registry, Depends(_registry)]


def chosen_model(name: str, alias: str | None, version: int | None) -> dict[str, str]:
    """Return the version of a model that a request chooses, as the predictor expects it (`service.predictor.app`).

    Raises:
        Problem: 422 if the request has an alias and a version.
    """
    if alias is not None and version is not None:
        raise Problem(422, "Alias and version", "got an alias and a version; pass only one of them")
    return {"name": name, **({"alias": alias or CHAMPION} if version is None else {"version": str(version)})}


def require_aliases(registry: Registry, name: str) -> dict[str, int]:
    """Return the aliases of a model; raises Problem 404 if it does not exist."""
    aliases = registry.aliases(name)
    if aliases is None:
        raise Problem(404, "Model not found", f"model {name!r} is not registered; GET /v1/models lists all")
    return aliases


def require_version(registry: Registry, name: str, number: int) -> ModelVersion:
    """Return a version of a model; raises Problem 404 if it does not exist."""
    version = registry.version(name, number)
    if version is None:
        require_aliases(registry, name)
        detail = f"{name!r} has no version {number}; GET /v1/models/{name} lists all"
        raise Problem(404, "Version not found", detail)
    return version
