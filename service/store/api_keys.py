"""API keys in the database, which has their hashes only."""

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, Row, insert, or_, select, update

from service.principal import KeyLimits, Principal
from service.scopes import Scope
from service.store.audit import append_audit
from service.store.database import reading, writing
from service.store.errors import KeyUnknown
from service.store.tables import api_keys

USE_INTERVAL_S = 60.0
"""The last use of a key is written at most this often."""


@dataclass(frozen=True)
class ApiKey:
    """A row of `api_keys`; times are seconds since 1970."""

    id: str
    name: str
    tenant: str
    scopes: frozenset[Scope]
    secret_hash: str = field(repr=False)
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    last_used_at: float | None
    limits: KeyLimits

    @property
    def is_usable(self) -> bool:
        """True unless the key was revoked or has expired."""
        return self.revoked_at is None and (self.expires_at is None or time.time() < self.expires_at)


class KeyStore:
    """Every method raises StoreUnavailable while the database cannot be used."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(
        self,
        key_id: str,
        secret_hash: str,
        *,
        name: str,
        tenant: str,
        scopes: Collection[Scope],
        expires_at: float | None,
        limits: KeyLimits,
        by: Principal,
    ) -> ApiKey:
        """Add a key, with its audit row."""
        row = {
            "id": key_id,
            "name": name,
            "tenant": tenant,
            "scopes": sorted(scopes),
            "secret_hash": secret_hash,
            "created_at": time.time(),
            "expires_at": expires_at,
            "requests_per_minute": limits.requests_per_minute,
            "queued_jobs": limits.queued_jobs,
            "storage_bytes": limits.storage_bytes,
        }
        with writing(self._engine) as connection:
            created = _key_of(connection.execute(insert(api_keys).values(row).returning(api_keys)).one())
            detail = f"{name}: {', '.join(sorted(scopes))}"
            append_audit(connection, by, "key.create", key_id, tenant=tenant, detail=detail)
        return created

    def all(self) -> list[ApiKey]:
        """Return all keys, also those that were revoked or have expired, oldest first."""
        with reading(self._engine) as connection:
            return [_key_of(row) for row in connection.execute(select(api_keys).order_by(api_keys.c.created_at))]

    def revoke(self, key_id: str, by: Principal) -> ApiKey:
        """Revoke a key, with its audit row; repeating it changes nothing.

        Raises:
            KeyUnknown: no key has this id.
        """
        with writing(self._engine) as connection:
            query = select(api_keys).where(api_keys.c.id == key_id)
            found = connection.execute(query.with_for_update()).one_or_none()
            if found is None:
                raise KeyUnknown(key_id)
            if found.revoked_at is not None:
                return _key_of(found)
            change = update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=time.time())
            revoked = _key_of(connection.execute(change.returning(api_keys)).one())
            append_audit(connection, by, "key.revoke", key_id, tenant=revoked.tenant, detail=revoked.name)
        return revoked

    def record_use(self, key_id: str, used_at: float) -> None:
        """Record the time of the last use, unless it was recorded within `USE_INTERVAL_S` before."""
        is_old = or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < used_at - USE_INTERVAL_S)
        with writing(self._engine) as connection:
            connection.execute(update(api_keys).where(api_keys.c.id == key_id, is_old).values(last_used_at=used_at))


def _key_of(row: Row[Any]) -> ApiKey:
    values = row._asdict()
    limits = KeyLimits(*(values.pop(name) for name in ("requests_per_minute", "queued_jobs", "storage_bytes")))
    # A scope of a newer version permits nothing here.
    known = frozenset(Scope(scope) for scope in values.pop("scopes") if scope in set(Scope))
    return ApiKey(**values, scopes=known, limits=limits)
