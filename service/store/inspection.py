"""Inspect a database without creating or migrating it."""

import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from service.store.engines import DatabaseLimits, engine_of, parse_url
from service.store.errors import SchemaUnknown
from service.store.schema import found_schema, newest_schema
from service.store.supervisor_lease import find_lease, places_of_attempts
from service.store.tables import api_keys, events
from service.store.translation import translated_errors

_LIMITS = DatabaseLimits(lock_s=5.0, statement_s=5.0, connect_s=5.0, connections=1)


@dataclass(frozen=True)
class DatabaseState:
    """The state of a database.

    Attributes:
        schema: its version; None if it is empty or does not exist.
        is_current: whether the version is the newest one; the facts below are known only then.
        newest_event_at: time of the newest event.
        num_usable_keys: API keys that are neither revoked nor expired.
        lease_age_s: seconds since the last heartbeat of the supervisor with the lease; None without one.
        lease_host: host of this supervisor.
        places: hosts of the attempts of active jobs, with the roots of their run folders.
    """

    schema: str | None
    is_current: bool = False
    newest_event_at: float | None = None
    num_usable_keys: int = 0
    lease_age_s: float | None = None
    lease_host: str = ""
    places: frozenset[tuple[str, str]] = frozenset()


def inspect_database(url: str) -> DatabaseState:
    """Return the state of a database.

    Raises:
        StoreUnavailable: it cannot be read at the moment.
        SchemaUnknown: it was written by a newer version.
        ValueError: the URL is invalid.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(str(parsed.database)).exists():
        return DatabaseState(schema=None)
    engine = engine_of(parsed, _LIMITS, is_pooled=False)
    now = time.time()
    with translated_errors(engine), engine.connect() as connection:
        schema = found_schema(connection)
        if schema is None or schema < newest_schema():
            return DatabaseState(schema)
        if schema > newest_schema():
            raise SchemaUnknown(schema, newest_schema())
        newest = connection.execute(select(events.c.time).order_by(events.c.seq.desc()).limit(1)).scalar_one_or_none()
        is_valid = api_keys.c.revoked_at.is_(None) & (api_keys.c.expires_at.is_(None) | (api_keys.c.expires_at > now))
        keys = connection.execute(select(func.count()).select_from(api_keys).where(is_valid)).scalar_one()
        lease, places = find_lease(connection), frozenset(places_of_attempts(connection))
    is_held = lease is not None and lease.owner is not None
    return DatabaseState(
        schema, True, newest, int(keys),
        lease_age_s=now - lease.beat_at if lease is not None and is_held else None,
        lease_host=lease.host if lease is not None else "", places=places,
    )  # fmt: skip
