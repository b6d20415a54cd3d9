"""Owners of registered models: the first tenant that registers a name owns it. Torch-free."""

import os

from pipelines.base.errors import RegistryError
from pipelines.run_folder.layout import TENANT_VARIABLE
from pipelines.tracking.model_versions import DEFAULT_TENANT, TENANT_TAG
from pipelines.tracking.registry import Registry


def tenant_of_run() -> str | None:
    """Return the tenant for which the service runs this process; None if no service runs it."""
    return os.environ.get(TENANT_VARIABLE) or None


def owner_of_model(registry: Registry, name: str) -> str | None:
    """Return the tenant that owns a model; None if the model does not exist. Raises RegistryError."""
    tags = registry.tags(name)
    if TENANT_TAG in tags:
        return tags[TENANT_TAG]
    return None if registry.aliases(name) is None else DEFAULT_TENANT


def is_hidden(registry: Registry, name: str, tenant: str | None) -> bool:
    """Return True if a model belongs to another tenant than this one; None sees all models. Raises RegistryError."""
    return tenant is not None and owner_of_model(registry, name) not in (None, tenant)


def claim_name(registry: Registry, name: str, tenant: str) -> None:
    """Make a tenant the owner of a name, unless it is already.

    MLflow creates a name once, with its owner, so that of two tenants one gets it.

    Raises:
        RegistryError: the name belongs to another tenant, or MLflow does not respond.
    """
    registry.create_model(name, {TENANT_TAG: tenant})
    if is_hidden(registry, name, tenant):
        raise RegistryError(f"the name {name!r} is used by others; choose another one in tracking.register_as")
