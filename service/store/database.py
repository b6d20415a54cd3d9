"""Opening the database, migrating its schema, and starting transactions."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DatabaseError
from sqlalchemy.pool import NullPool

from service.store.errors import SchemaUnknown
from service.store.translation import translated_errors

BUSY_S = 30.0
DAMAGED = {"SQLITE_NOTADB", "SQLITE_CORRUPT"}
_BEGIN = "pyramidion_begin"
_MIGRATIONS = Path(__file__).parent.parent / "migrations"


def open_database(url: str, busy_s: float = BUSY_S) -> Engine:
    """Return an engine for the database with the newest schema; a missing database is created, an old one migrated.

    Args:
        busy_s: seconds that a transaction of the engine waits for the write lock of an SQLite file.

    Raises:
        SchemaUnknown: the schema was created by a newer version.
        StoreUnavailable: the database cannot be opened, read or written at the moment.
        ValueError: the URL is invalid, does not name a file that processes can share, or names a damaged file.
    """
    try:
        parsed = make_url(url)
        engine = _sqlite_engine(parsed, busy_s) if parsed.get_backend_name() == "sqlite" else create_engine(parsed)
    except (ArgumentError, ImportError) as error:
        raise ValueError(
            f"PYRAMIDION_DATABASE_URL: cannot be used ({error}); use a URL such as sqlite:////folder/service.db"
        ) from error
    with translated_errors():
        try:
            if not _is_ready(engine):
                with _migration_lock(parsed):
                    if not _is_ready(engine):
                        _migrate(parsed)
                engine.dispose()  # its connection still has the old schema
        except DatabaseError as error:
            if getattr(error.orig, "sqlite_errorname", None) in DAMAGED:
                raise ValueError(f"{parsed.database}: {error.orig}; move the file away or restore a backup") from error
            raise
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Provide a read-only transaction, which sees one state of the database; raises StoreUnavailable."""
    with translated_errors(), engine.connect() as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Provide a transaction that is written completely or not at all; raises StoreUnavailable.

    On SQLite it takes the write lock when it starts, so that no other transaction writes between its statements. A
    transaction that reads first and writes later would fail ("database is locked") whenever another one has written in
    between, even with a long timeout.
    """
    with (
        translated_errors(),
        engine.connect().execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}) as connection,
        connection.begin(),
    ):
        yield connection


def newest_schema() -> str:
    """Return the name of the newest schema version, without importing alembic (0.3 s)."""
    return max(_known_schemas())


def _known_schemas() -> set[str]:
    return {path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py")}


def _sqlite_engine(url: URL, busy_s: float = BUSY_S, **options: Any) -> Engine:
    if not url.database or url.database == ":memory:" or "mode" in url.query:
        raise ValueError(
            f"PYRAMIDION_DATABASE_URL: got {url.render_as_string()}, which does not name a file that several processes "
            "can share; use a URL such as sqlite:////folder/service.db"
        )
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    options = options or {"pool_size": 16, "max_overflow": 48}  # more than the API has threads
    engine = create_engine(url, connect_args={"timeout": busy_s}, **options)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = (
            None  # SQLAlchemy starts transactions, not the driver (autocommit=True needs Python 3.12)
        )
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))

    return engine


def _is_ready(engine: Engine) -> bool:
    """Return True if the schema is the newest one and an SQLite file is in WAL mode."""
    is_sqlite = engine.dialect.name == "sqlite"
    with engine.connect() as connection:
        if is_sqlite and connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() != "wal":
            return False
        if not inspect(connection).has_table("alembic_version"):
            return False
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    if found is not None and found not in _known_schemas():
        raise SchemaUnknown(found, newest_schema())
    return bool(found == newest_schema())


@contextmanager
def _migration_lock(url: URL) -> Iterator[None]:
    """Let one process at a time migrate an SQLite file; the lock is released when its holder dies."""
    if url.get_backend_name() != "sqlite":
        yield
        return
    with Path(f"{url.database}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # not lockf, which would let two threads in
        yield


def _migrate(url: URL) -> None:
    """Migrate the schema to the newest version in one transaction."""
    from alembic import command
    from alembic.config import Config

    # ConfigParser reads a percent sign in the path as the start of a variable.
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    is_sqlite = url.get_backend_name() == "sqlite"
    engine = _sqlite_engine(url, poolclass=NullPool) if is_sqlite else create_engine(url, poolclass=NullPool)
    with engine.connect().execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}) as connection:
        if is_sqlite:
            cursor = connection.connection.cursor()
            cursor.execute("PRAGMA journal_mode = WAL")
            # A migration may copy a table and drop the old one, which would delete all rows that refer to it.
            cursor.execute("PRAGMA foreign_keys = OFF")
        with connection.begin():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
