"""The database is opened, its schema brought to what this version knows, and transactions begin in one way."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DatabaseError
from sqlalchemy.pool import NullPool

from service.store.errors import SchemaUnknown

BUSY_S = 30.0
DAMAGED = {"SQLITE_NOTADB", "SQLITE_CORRUPT"}
_BEGIN = "pyramidion_begin"
_MIGRATIONS = Path(__file__).parent.parent / "migrations"


def open_database(url: str) -> Engine:
    """Return an engine on the database, made where there is none, with its schema at head.

    Raises:
        SchemaUnknown: a newer version has made it.
        ValueError: the URL is none, or names no file, so that processes could not share it, or one that is damaged.
    """
    try:
        parsed = make_url(url)
        engine = _sqlite_engine(parsed) if parsed.get_backend_name() == "sqlite" else create_engine(parsed)
    except (ArgumentError, ImportError) as error:
        raise ValueError(
            f"PYRAMIDION_DATABASE_URL: cannot be used ({error}); write sqlite:////folder/service.db"
        ) from error
    try:
        if not _is_ready(engine):
            with _migration_lock(parsed):
                if not _is_ready(engine):
                    _migrate(parsed)
            engine.dispose()  # its connection has known the file as it was before
    except DatabaseError as error:
        if getattr(error.orig, "sqlite_errorname", None) in DAMAGED:
            raise ValueError(f"{parsed.database}: {error.orig}; move it away, or put back a copy") from error
        raise
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Give a transaction that writes: all of it happens or nothing, and no other writer comes between its statements.

    On SQLite it takes the write lock when it begins: one that reads first and then wants to write would be refused
    ("database is locked") whenever another has written in between, however long it is ready to wait.
    """
    with engine.connect().execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}) as connection, connection.begin():
        yield connection


def newest_schema() -> str:
    """Return the name of the newest version of the schema, without alembic (0.3 s of imports)."""
    return max(_known_schemas())


def _known_schemas() -> set[str]:
    return {path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py")}


def _sqlite_engine(url: URL, **options: Any) -> Engine:
    if not url.database or url.database == ":memory:" or "mode" in url.query:
        raise ValueError(
            f"PYRAMIDION_DATABASE_URL: got {url.render_as_string()}, which names no file that several processes "
            "could share; write sqlite:////folder/service.db"
        )
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    options = options or {"pool_size": 16, "max_overflow": 48}  # threads of the API: 40, and one a stream
    engine = create_engine(url, connect_args={"timeout": BUSY_S}, **options)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy begins transactions, not the driver: not before Python 3.12
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))

    return engine


def _is_ready(engine: Engine) -> bool:
    """Return whether the schema is at head, and the file in WAL mode where it is a file."""
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
    """Let one process at a time migrate a file; the lock ends with its holder."""
    if url.get_backend_name() != "sqlite":
        yield
        return
    with Path(f"{url.database}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # not lockf, which would let two threads in
        yield


def _migrate(url: URL) -> None:
    """Bring the schema to head in one transaction."""
    from alembic import command
    from alembic.config import Config

    # ConfigParser would take a percent sign of the path for the start of a variable.
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    is_sqlite = url.get_backend_name() == "sqlite"
    engine = _sqlite_engine(url, poolclass=NullPool) if is_sqlite else create_engine(url, poolclass=NullPool)
    with engine.connect().execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}) as connection:
        if is_sqlite:
            cursor = connection.connection.cursor()
            cursor.execute("PRAGMA journal_mode = WAL")
            # A later version may copy a table and drop the old one, and with it all rows that refer to it.
            cursor.execute("PRAGMA foreign_keys = OFF")
        with connection.begin():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
