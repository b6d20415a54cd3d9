"""Locks that belong to no row and end with their transaction. SQLite needs none: one transaction at a time writes."""

from sqlalchemy import Connection, func, select

_EVENT_LOG = 0x7079_7261
_MIGRATIONS = 0x7079_7262
_QUOTAS = 0x7079_7263


def lock_event_log(connection: Connection) -> None:
    """Let one transaction at a time append events."""
    _lock(connection, _EVENT_LOG)


def lock_migrations(connection: Connection) -> None:
    """Let one transaction at a time migrate the database."""
    _lock(connection, _MIGRATIONS)


def lock_quota(connection: Connection, tenant: str) -> None:
    """Let one transaction at a time add to what a tenant stores."""
    _lock(connection, _QUOTAS, func.hashtext(tenant))


def _lock(connection: Connection, *numbers: object) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(*numbers)))
