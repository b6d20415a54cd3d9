"""The identity on whose behalf a use case runs. Torch-free."""

from collections.abc import Collection
from dataclasses import dataclass

from service.scopes import Scope

LOCAL_TENANT = "local"
"""The owner of everything that was made without a key."""


@dataclass(frozen=True)
class KeyLimits:
    """The limits of a key; None is unlimited.

    Attributes:
        requests_per_minute: requests to one API process.
        queued_jobs: jobs in the queue that were submitted with the key.
        storage_bytes: bytes of the data sets that were uploaded with the key.
    """

    requests_per_minute: int | None = None
    queued_jobs: int | None = None
    storage_bytes: int | None = None


@dataclass(frozen=True)
class Principal:
    """An authenticated caller.

    Attributes:
        name: name of the user or of the key.
        tenant: the owner of the jobs, data sets and models that the caller creates.
        scopes: the permissions of the caller.
        key_id: the key with which the caller was authenticated; None without keys.
        limits: what the caller may use.
        request_id: the request that the caller sent.
    """

    name: str
    tenant: str
    scopes: frozenset[Scope] = frozenset({Scope.ADMIN})
    key_id: str | None = None
    limits: KeyLimits = KeyLimits()
    request_id: str | None = None

    @property
    def is_admin(self) -> bool:
        """True if the caller may do everything, and sees all tenants."""
        return Scope.ADMIN in self.scopes

    @property
    def visible_tenant(self) -> str | None:
        """The tenant whose jobs, data sets and models the caller sees; None for all tenants."""
        return None if self.is_admin else self.tenant

    def lacks(self, needed: Collection[Scope]) -> list[Scope]:
        """Return the scopes among `needed` that the caller does not have."""
        return [] if self.is_admin else [scope for scope in needed if scope not in self.scopes]

    def sees(self, tenant: str) -> bool:
        """Return True if the caller may know of what a tenant owns."""
        return self.is_admin or tenant == self.tenant


LOCAL_USER = Principal("local", LOCAL_TENANT)
"""Everyone who can reach the loopback interface: without keys, the service has one user with all permissions."""
