"""Creating, listing and revoking keys."""

import re
from collections.abc import Collection

from pipelines.base.errors import ConfigError, FieldProblem
from service.keys.key_text import id_of, new_secret, shown_prefix
from service.principal import LOCAL_TENANT, KeyLimits, Principal
from service.scopes import Scope
from service.store.api_keys import ApiKey, KeyStore

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
LATEST_END = 253_370_764_800
"""The year 9999, in seconds since 1970: later ends have no date in some time zones."""
VALID_NAME = "use up to 64 letters, digits, '.', '_' and '-', and start with a letter or a digit"


class Keys:
    """The use cases over one store."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store

    def create(
        self,
        by: Principal,
        name: str,
        scopes: Collection[Scope],
        *,
        tenant: str = LOCAL_TENANT,
        expires_at: float | None = None,
        limits: KeyLimits = KeyLimits(),  # noqa: B008
    ) -> tuple[ApiKey, str]:
        """Create a key and return it with its text, which is not stored and cannot be shown again.

        Raises:
            ConfigError: the name or the tenant is invalid, the key has no scope, or it ends after the year 9998.
        """
        problems = [
            FieldProblem(option, f"got {text!r}; {VALID_NAME}")
            for option, text in (("NAME", name), ("--tenant", tenant))
            if not _NAME.fullmatch(text)
        ]
        if not scopes:
            problems.append(FieldProblem("--scope", f"is missing; choose from {', '.join(Scope)}"))
        if expires_at is not None and expires_at > LATEST_END:
            problems.append(FieldProblem("--expires", "is after the year 9998; omit it for a key without an end"))
        if problems:
            raise ConfigError(problems)
        secret = new_secret()
        key = self._store.create(
            secret.key_id,
            secret.secret_hash,
            name=name,
            tenant=tenant,
            scopes=scopes,
            expires_at=expires_at,
            limits=limits,
            by=by,
        )
        return key, secret.text

    def list_keys(self) -> list[ApiKey]:
        """Return all keys, oldest first."""
        return self._store.all()

    def revoke_id(self, by: Principal, key_id: str) -> ApiKey:
        """Revoke a key as `revoke` does; raises KeyUnknown if no key has this id."""
        return self._store.revoke(key_id, by)

    def revoke(self, by: Principal, which: str) -> ApiKey:
        """Revoke a key: it stops working on all API processes within `key_cache_s`.

        Args:
            which: the id of the key, its prefix as it is shown, its complete text, or the name of one usable key.

        Raises:
            ConfigError: no key matches, or several usable keys have the name.
        """
        keys = self._store.all()
        key_id = id_of(which) or which
        found = [key for key in keys if key_id in (key.id, shown_prefix(key.id))]
        found = found or [key for key in keys if key.name == which and key.is_usable]
        if len(found) == 1:
            return self._store.revoke(found[0].id, by)
        if found:
            ids = ", ".join(shown_prefix(key.id) for key in found)
            raise ConfigError(FieldProblem("KEY", f"got {which!r}, the name of {len(found)} keys; choose one of {ids}"))
        # The text could be a mistyped key, which must not be printed.
        raise ConfigError(FieldProblem("KEY", "no usable key has this name or id; `pyramidion keys list` shows all"))
