"""Opening the database with the newest schema, and starting transactions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError

from service.store.database_file import keep_watch_over_file
from service.store.engines import BEGIN, DatabaseLimits, engine_of, parse_url
from service.store.schema import is_current, migrate
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
    with translated_errors(engine):
        try:
            if not is_current(engine):
                migrate(parsed)
                engine.dispose()  # its connection still has the old schema
        except DatabaseError as error:
            if getattr(error.orig, "sqlite_errorname", None) in DAMAGED:
                raise ValueError(f"{parsed.database}: {error.orig}; move the file away or restore a backup") from error
            raise
    if engine.dialect.name == "sqlite":
        keep_watch_over_file(engine)
    return engine


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
