"""Routes that ask the model registry. Torch-free."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, cast

from fastapi import Depends, Request, Response

from pipelines.base.errors import ModelFilesUnavailable, RegistryError
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry
from service.api.limits import JsonRoute
from service.api.thread_pools import Work
from service.rest.problems import Problem


class RegistryRoute(JsonRoute):
    """A route that responds with a problem if MLflow does not answer, or has lost the files of a version."""

    work = Work.REGISTRY

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def translated(request: Request) -> Response:
            try:
                return await handler(request)
            except RegistryError as error:
                detail, headers = str(error), {"Retry-After": "5"}
                raise Problem(503, "The model registry does not answer", detail, headers=headers) from error
            except ModelFilesUnavailable as error:
                raise Problem(410, "The files of the model are missing", str(error)) from error

        return translated


async def _registry(request: Request) -> Registry:
    return cast(Registry, request.app.state.registry)


RegistryDep = Annotated[Registry, Depends(_registry)]


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
