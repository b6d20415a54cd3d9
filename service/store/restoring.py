"""A database that a backup is restored into: it must be empty, and no service may use it."""

import time
from pathlib import Path

from sqlalchemy import Connection, Engine, MetaData, func, inspect, select, text

from service.store.engines import DatabaseLimits, address_of, engine_of, parse_url
from service.store.records import SupervisorLease
from service.store.supervisor_lease import find_lease
from service.store.tables import metadata, supervisor_leases
from service.store.translation import translated_errors

NOT_COPIED = frozenset({"supervisor_leases", "write_probes"})
"""They describe processes, not jobs."""
_UNFINISHED = "unfinished_restore"
"""A table that exists while the rows of a backup are loaded but not adapted: they may be replaced."""
_LOOK_S = 0.2


def require_restorable(url: str, lease_s: float) -> None:
    """Check that a backup can be restored into a database; a missing SQLite file is not created.

    Args:
        url: of the database.
        lease_s: a supervisor without a heartbeat for this time has ended, see `service.supervisor.lease`.

    Raises:
        ValueError: the URL is invalid, a supervisor uses the database, or it is not empty.
        StoreUnavailable: the database cannot be used at the moment.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(str(parsed.database)).exists():
        return
    engine = engine_of(parsed, DatabaseLimits(), is_pooled=False)
    with translated_errors(engine):
        with engine.connect() as connection:
            require_empty(connection)
        _require_no_supervisor(engine, lease_s)


def lock_tables(connection: Connection) -> None:
    """Let nobody else write to the tables of the service until the transaction ends."""
    if connection.dialect.name == "postgresql":  # on SQLite the transaction has the only lock
        names = ", ".join(sorted(set(_tables(connection).tables) & set(metadata.tables)))
        connection.execute(text(f"LOCK TABLE {names} IN EXCLUSIVE MODE"))


def require_empty(connection: Connection) -> None:
    """Raise ValueError if a table of the service has a row that no interrupted restore has written."""
    if inspect(connection).has_table(_UNFINISHED):
        return
    for name, table in _tables(connection).tables.items():
        is_copied = name in metadata.tables and name not in NOT_COPIED
        if is_copied and connection.execute(select(func.count()).select_from(table)).scalar_one():
            raise ValueError(
                f"the database {address_of(connection.engine)} has rows in {name}, so it belongs to a service; restore "
                "into an empty one"
            )


def start_loading(connection: Connection) -> None:
    """Mark the rows that the transaction will add as unfinished, and delete those of an interrupted restore."""
    if not inspect(connection).has_table(_UNFINISHED):
        connection.execute(text(f"CREATE TABLE {_UNFINISHED} (number INTEGER)"))
        return
    for table in reversed(_tables(connection).sorted_tables):
        if table.name in metadata.tables:
            connection.execute(table.delete())


def finish_loading(connection: Connection) -> None:
    """Remove the mark of `start_loading`."""
    connection.execute(text(f"DROP TABLE IF EXISTS {_UNFINISHED}"))


def _tables(connection: Connection) -> MetaData:
    found = MetaData()
    found.reflect(connection)
    return found


def _require_no_supervisor(engine: Engine, lease_s: float) -> None:
    """Raise ValueError if the lease is renewed while it is watched; heartbeats are counted, so clocks do not matter."""
    first = _lease(engine)
    deadline = time.monotonic() + lease_s
    while first is not None and first.owner is not None and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
        now = _lease(engine)
        if now is None or now.owner is None:
            return
        if (now.owner, now.beat) != (first.owner, first.beat):
            raise ValueError(
                f"the database {address_of(engine)} is used by a running service: its supervisor is process {now.pid} "
                f"on host {now.host}; stop that service, or restore into another database"
            )


def _lease(engine: Engine) -> SupervisorLease | None:
    with engine.connect() as connection:
        return find_lease(connection) if inspect(connection).has_table(supervisor_leases.name) else None
