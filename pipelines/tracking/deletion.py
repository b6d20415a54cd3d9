"""Deletion of versions and models that no alias needs, with their files. Torch-free."""

from collections.abc import Sequence

from pipelines.base.errors import PyramidionError
from pipelines.tracking.registry import CANDIDATE, Registry


class AliasesPoint(PyramidionError):
    """The model or version cannot be deleted, because aliases point to it."""

    def __init__(self, what: str, aliases: Sequence[str]) -> None:
        super().__init__(f"these aliases point to {what}: {', '.join(aliases)}; remove or move them first")


def delete_version(registry: Registry, name: str, number: int) -> bool:
    """Delete a version to which no alias points, and its files; return whether the files are deleted.

    Raises:
        AliasesPoint: aliases point to it.
        LookupError: it does not exist.
        RegistryError: MLflow does not respond or refuses the request.
    """
    with registry.store.locked("aliases"):
        version = registry.version(name, number)
        if version is None:
            raise LookupError(f"{name!r} has no version {number}")
        if version.aliases:
            raise AliasesPoint(f"version {number} of {name!r}", version.aliases)
        return registry.remove_version(version)


def delete_model(registry: Registry, name: str) -> bool:
    """Delete a model with all versions and their files; return whether all files are deleted.

    The alias `candidate`, which is set automatically, does not prevent it.

    Raises:
        AliasesPoint: other aliases point to versions.
        LookupError: it does not exist.
        RegistryError: MLflow does not respond or refuses the request.
    """
    with registry.store.locked("aliases"):
        aliases = registry.aliases(name)
        if aliases is None:
            raise LookupError(f"model {name!r} does not exist")
        if others := sorted(set(aliases) - {CANDIDATE}):
            raise AliasesPoint(f"versions of {name!r}", others)
        return registry.remove_model(name)
