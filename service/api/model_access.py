"""Owners of models: for a key, the models of other tenants do not exist."""

import time
from collections import OrderedDict

from fastapi import Request

from pipelines.tracking.model_owners import owner_of_model
from pipelines.tracking.registry import Registry
from service.api.thread_pools import ThreadPool
from service.principal import Principal
from service.rest.problems import Problem

_PATH = "/v1/models/"
_NUM_KEPT = 1024


class ModelOwners:
    """Owners of models, each read from the registry at most every `max_age_s` seconds. Use it in the event loop."""

    def __init__(self, registry: Registry, pool: ThreadPool, max_age_s: float) -> None:
        self._registry, self._pool, self._max_age_s = registry, pool, max_age_s
        self._known: OrderedDict[str, tuple[str | None, float]] = OrderedDict()

    async def owner(self, name: str) -> str | None:
        """Return the tenant that owns a model; None if it does not exist. Raises NoAnswer or RegistryError."""
        owner, read_at = self._known.get(name, (None, -float("inf")))
        if time.monotonic() - read_at > self._max_age_s:
            read_at = time.monotonic()
            owner = await self._pool.run(owner_of_model, self._registry, name)
            self._known[name] = owner, read_at
            if len(self._known) > _NUM_KEPT:
                self._known.popitem(last=False)
        return owner


async def owner_of_named_model(request: Request) -> str | None:
    """Return the tenant that owns the model in the path of a request; None without one, or if it does not exist."""
    name = request.path_params.get("name")
    if name is None or not request.url.path.startswith(_PATH):
        return None
    owners: ModelOwners = request.app.state.model_owners
    return await owners.owner(name)


async def require_visible_model(request: Request) -> None:
    """Raise Problem 404 if the path names a model that the caller does not see."""
    principal: Principal = request.state.principal
    if principal.visible_tenant is None:
        return
    owner = await owner_of_named_model(request)
    if owner is not None and not principal.sees(owner):
        name = request.path_params["name"]
        raise Problem(404, "Model not found", f"model {name!r} is not registered; GET /v1/models lists all")
