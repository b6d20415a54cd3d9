"""Inspect a database without creating or migrating it."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection, func, select, text

from service.store.engines import DatabaseLimits, engine_of, parse_url
from service.store.schema import found_schema, newest_schema, require_known
from service.store.supervisor_lease import find_lease, places_of_attempts
from service.store.tables import api_keys, events
from service.store.translation import translated_errors

_SERVER = text(
    "SELECT current_user, has_schema_privilege(current_schema(), 'CREATE'), extract(epoch FROM clock_timestamp())"
)
_LIMITS = DatabaseLimits(lock_s=5.0, statement_s=5.0, connect_s=5.0, connections=1)


@dataclass(frozen=True)
class DatabaseState:
    """The state of a database.

    Attributes:
        schema: its version; None if it is empty or does not exist.
        is_current: whether the version is the newest one; the facts below are known only then.
        newest_event_at: time of the newest event.
        num_usable_keys: API keys that are neither revoked nor expired.
        num_keys: all API keys.
        lease_age_s: seconds since the last heartbeat of the supervisor with the lease; None without one.
        lease_host: host of this supervisor.
        places: hosts of the attempts of active jobs, with the roots of their run folders.
        account: user of the database; empty for SQLite.
        may_create_tables: whether it may create tables.
        clock_ahead_s: seconds by which the clock of the database's server is ahead of the one here.
    """

    schema: str | None
    is_current: bool = False
    newest_event_at: float | None = None
    num_usable_keys: int = 0
    num_keys: int = 0
    lease_age_s: float | None = None
    lease_host: str = ""
    places: frozenset[tuple[str, str]] = frozenset()
    account: str = ""
    may_create_tables: bool = True
    clock_ahead_s: float = 0.0


def inspect_database(url: str) -> DatabaseState:
    """Return the state of a database.

    Raises:
        StoreUnavailable: it cannot be read at the moment.
        SchemaUnknown: it was written by a newer version, or by another application.
        ValueError: the URL is invalid.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(str(parsed.database)).exists():
        return DatabaseState(schema=None)
    engine = engine_of(parsed, _LIMITS, is_pooled=False)
    now = time.time()
    with translated_errors(engine), engine.connect() as connection:
        schema = found_schema(connection)
        state = replace(_server_state(connection), schema=schema)
        if schema is not None:
            require_known(schema, is_of_database=True)
        if schema != newest_schema():
            return state
        newest = connection.execute(select(events.c.time).order_by(events.c.seq.desc()).limit(1)).scalar_one_or_none()
        is_valid = api_keys.c.revoked_at.is_(None) & (api_keys.c.expires_at.is_(None) | (api_keys.c.expires_at > now))
        num_keys, usable = select(func.count()).select_from(api_keys), select(func.count()).select_from(api_keys)
        keys = connection.execute(num_keys).scalar_one(), connection.execute(usable.where(is_valid)).scalar_one()
        lease, places = find_lease(connection), frozenset(places_of_attempts(connection))
    is_held = lease is not None and lease.owner is not None
    return replace(
        state, is_current=True, newest_event_at=newest, num_keys=keys[0], num_usable_keys=keys[1],
        lease_age_s=now - lease.beat_at if lease is not None and is_held else None,
        lease_host=lease.host if lease is not None else "", places=places,
    )  # fmt: skip


def _server_state(connection: Connection) -> DatabaseState:
    """Return what the server of a database says about itself; a file has none."""
    if connection.dialect.name != "postgresql":
        return DatabaseState(schema=None)
    asked_at = time.time()
    account, may_create, clock = connection.execute(_SERVER).one()
    return DatabaseState(
        schema=None, account=account, may_create_tables=bool(may_create), clock_ahead_s=float(clock) - asked_at
    )
