"""The schema of a database: its version, and migrations to another version by one process at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, inspect, text

from service.store.engines import BEGIN, DatabaseLimits, engine_of
from service.store.errors import SchemaUnknown
from service.store.locks import lock_migrations

_MIGRATIONS = Path(__file__).parent.parent / "migrations"
_LIMITS = DatabaseLimits(statement_s=3600.0)
_TABLE_LOCK_S = 10
"""Maximum time that a migration waits for running statements; new statements wait for it meanwhile."""


def newest_schema() -> str:
    """Return the name of the newest schema version, without importing alembic (0.3 s)."""
    return max(_known_schemas())


def is_current(engine: Engine) -> bool:
    """Return True if the schema is the newest one and an SQLite file is in WAL mode.

    Raises:
        SchemaUnknown: the schema was created by a newer version.
    """
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite" and (
            connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() != "wal"
        ):
            return False
        found = found_schema(connection)
    if found is not None:
        require_known(found, is_of_database=True)
    return found == newest_schema()


def require_known(version: str, *, is_of_database: bool = False) -> None:
    """Check the name of a schema version.

    Raises:
        SchemaUnknown: it is that of a database, and was created by a newer version.
        ValueError: no schema has this name.
    """
    known = sorted(_known_schemas())
    if version not in known:
        if is_of_database:
            raise SchemaUnknown(version, newest_schema())
        raise ValueError(f"unknown schema version {version!r}; choose one of {', '.join(known)}")


def found_schema(connection: Connection) -> str | None:
    """Return the name of the schema version of a database; None if it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found


def migrate(url: URL, to: str | None = None) -> None:
    """Migrate a database to the newest version, or up or down to another one, in one transaction.

    One process at a time migrates; the others wait, and find that nothing remains to be done. Readers and writers may
    use the database meanwhile: they wait, or get StoreUnavailable.
    """
    from alembic import command
    from alembic.config import Config

    # ConfigParser reads a percent sign in the path as the start of a variable.
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    engine = engine_of(url, _LIMITS, is_pooled=False)
    with (
        _file_lock(url),
        engine.connect().execution_options(**{BEGIN: "BEGIN IMMEDIATE"}) as connection,
    ):
        if url.get_backend_name() == "sqlite":
            cursor = connection.connection.cursor()
            cursor.execute("PRAGMA journal_mode = WAL")
            # A migration may copy a table and drop the old one, which would delete all rows that refer to it.
            cursor.execute("PRAGMA foreign_keys = OFF")
        with connection.begin():
            if url.get_backend_name() == "postgresql":
                connection.execute(text("SET LOCAL lock_timeout = 0"))
                lock_migrations(connection)
                connection.execute(text(f"SET LOCAL lock_timeout = '{_TABLE_LOCK_S}s'"))
            config.attributes["connection"] = connection
            found = found_schema(connection)
            if to is not None and found is not None and to < found:
                command.downgrade(config, to)
            else:
                command.upgrade(config, to or "head")


def _known_schemas() -> set[str]:
    return {path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py")}


@contextmanager
def _file_lock(url: URL) -> Iterator[None]:
    """Let one process at a time migrate an SQLite file; the lock is released when its holder dies."""
    if url.get_backend_name() != "sqlite":
        yield
        return
    with Path(f"{url.database}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # not lockf, which would let two threads in
        yield
