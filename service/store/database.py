"""Opening the database with the newest schema, and starting transactions."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.exc import DatabaseError

from service.store.database_file import FileWatch
from service.store.engines import BEGIN, DatabaseLimits, engine_of, parse_url
from service.store.errors import StoreUnavailable
from service.store.schema import found_schema, is_current, migrate, newest_schema, require_known
from service.store.translation import translated_commit, translated_errors

Database: TypeAlias = Engine
"""An open database; callers outside of this package only pass it on."""

DAMAGED = {"SQLITE_NOTADB", "SQLITE_CORRUPT"}


def open_database(url: str, limits: DatabaseLimits | None = None) -> Engine:
    """Return an engine for the database with the newest schema; a missing database is created, an old one migrated.

    Raises:
        SchemaUnknown: the schema was created by a newer version.
        StoreUnavailable: the database cannot be opened, read or written at the moment.
        ValueError: the URL is invalid, does not name a file that processes can share, or names a damaged file.
    """
    parsed = parse_url(url)
    engine = engine_of(parsed, limits or DatabaseLimits())
    watch = _file_watch(engine)
    with translated_errors(engine):
        _migrate_if_needed(engine, parsed)
    if watch is not None:
        watch.start()
    return engine


def open_existing_database(url: str, limits: DatabaseLimits | None = None) -> Engine:
    """Return an engine for the database of a service; nothing is created or migrated.

    Raises:
        SchemaUnknown: the schema was created by a newer version.
        StoreUnavailable: there is no database, no service of this version has migrated it, or it cannot be read.
        ValueError: the URL is invalid, or does not name a file that processes can share.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(str(parsed.database)).exists():
        raise StoreUnavailable(f"{parsed.database} does not exist; `pyramidion serve` creates it")
    engine = engine_of(parsed, limits or DatabaseLimits())
    with translated_errors(engine):
        if not is_current(engine):
            raise StoreUnavailable("its schema is that of an earlier version; `pyramidion serve` migrates it")
    return engine


def open_database_later(url: str, limits: DatabaseLimits) -> Engine:
    """Return an engine like `open_database`; if the database is unavailable, it is opened by the first call that can.

    Until then each call raises StoreUnavailable.

    Raises:
        SchemaUnknown, ValueError: see `open_database`.
    """
    try:
        return open_database(url, limits)
    except StoreUnavailable:
        parsed = parse_url(url)
        engine = engine_of(parsed, limits)
        watch = _file_watch(engine)
        preparing, prepared = threading.Lock(), threading.Event()

        @event.listens_for(engine, "do_connect", insert=True)
        def _prepare(*_: Any) -> None:
            with preparing:
                if not prepared.is_set():
                    _migrate_if_needed(engine_of(parsed, limits, is_pooled=False), parsed)
                    if watch is not None:
                        watch.start()
                    prepared.set()

        return engine


def migrate_database(url: str, to: str | None = None, *, allow_down: bool = False) -> tuple[str | None, str]:
    """Migrate a database to the newest schema version or to another one; return the versions before and after.

    Raises:
        SchemaUnknown: its schema was created by a newer version of this project.
        StoreUnavailable: the database cannot be opened, read or written at the moment.
        ValueError: the URL is invalid, the version is unknown, or it is older and `allow_down` is false.
    """
    parsed, wanted = parse_url(url), to or newest_schema()
    require_known(wanted)
    engine = engine_of(parsed, DatabaseLimits(), is_pooled=False)
    with translated_errors(engine):
        with engine.connect() as connection:
            found = found_schema(connection)
        if found is not None:
            require_known(found, is_of_database=True)
            if wanted < found and not allow_down:
                raise ValueError(
                    f"the database has the schema {found}, and {wanted} is older: what only newer versions store would "
                    "be removed; back the database up, and repeat the command with --down"
                )
        migrate(parsed, wanted)
    return found, wanted


def _file_watch(engine: Engine) -> FileWatch | None:
    return FileWatch(engine) if engine.dialect.name == "sqlite" else None


def _migrate_if_needed(engine: Engine, url: URL) -> None:
    try:
        if not is_current(engine):
            migrate(url)
            engine.dispose()  # its connection still has the old schema
    except DatabaseError as error:
        if getattr(error.orig, "sqlite_errorname", None) in DAMAGED:
            raise ValueError(f"{url.database}: {error.orig}; move the file away or restore a backup") from error
        raise


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Provide a read-only transaction, which sees one state of the database; raises StoreUnavailable."""
    with translated_errors(engine), engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Provide a transaction that is written completely or not at all.

    On SQLite it takes the write lock when it starts, so that no other transaction writes between its statements. A
    transaction that reads first and writes later would fail ("database is locked") whenever another one has written in
    between, even with a long timeout.

    Raises:
        StoreUnavailable: nothing was written.
        OutcomeUnknown: the connection broke while the transaction was committed.
    """
    with (
        translated_errors(engine),
        engine.connect().execution_options(**{BEGIN: "BEGIN IMMEDIATE"}) as connection,
        connection.begin() as transaction,
    ):
        yield connection
        with translated_commit():
            transaction.commit()
