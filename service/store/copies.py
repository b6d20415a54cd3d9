"""A logical copy of the database: rows as lines of JSON, which load into SQLite and PostgreSQL alike."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import JSON, Connection, Engine, MetaData, Table, insert, select, text, update

from service.states import ACTIVE, JobStatus, Writer
from service.store.database import open_database, writing
from service.store.engines import DatabaseLimits, engine_of, parse_url
from service.store.restoring import NOT_COPIED, finish_loading, lock_tables, require_empty, start_loading
from service.store.rows import JOB_COLUMNS, change_status, job_of
from service.store.schema import found_schema, migrate
from service.store.tables import attempts, dataset_versions, jobs, metadata
from service.store.translation import translated_errors

_CHUNK = 500
RESTORED = "restored from a backup that was made while it ran"


@dataclass(frozen=True)
class DatabaseCopy:
    """Facts about a copy.

    Attributes:
        schema: version of the schema.
        num_rows: by table.
        numbers: the highest number that each table with numbered rows has used, also for rows that were deleted.
        job_ids: all jobs.
        dataset_ids: all versions of data sets.
    """

    schema: str
    num_rows: dict[str, int]
    numbers: dict[str, int]
    job_ids: frozenset[str]
    dataset_ids: frozenset[str]


def dump_rows(engine: Engine, write: Callable[[str], Any]) -> DatabaseCopy:
    """Write all rows of one state of the database as lines, parents before their children.

    Raises:
        StoreUnavailable: the database cannot be read at the moment.
    """
    num_rows: dict[str, int] = {}
    isolation = {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}
    with translated_errors(engine), engine.connect().execution_options(**isolation) as connection:
        for table in metadata.sorted_tables:
            if table.name in NOT_COPIED:
                continue
            num_rows[table.name] = 0
            for row in connection.execution_options(yield_per=_CHUNK).execute(select(table)):
                write(json.dumps([table.name, row._asdict()]) + "\n")
                num_rows[table.name] += 1
        schema = found_schema(connection)
        assert schema is not None
        numbers = {table.name: _last_number(connection, table) for table in _numbered(metadata)}
        job_ids = frozenset(connection.execute(select(jobs.c.id)).scalars())
        dataset_ids = frozenset(connection.execute(select(dataset_versions.c.id)).scalars())
    return DatabaseCopy(schema, num_rows, numbers, job_ids, dataset_ids)


def load_rows(url: str, lines: Iterable[str], schema: str, numbers: dict[str, int]) -> Engine:
    """Fill an empty database with the rows of a copy, migrate it to the newest schema, and return it.

    The rows are marked as unfinished until `stop_attempts`; those of an interrupted call are replaced.

    Raises:
        ValueError: the URL is invalid, or the database is not empty.
        StoreUnavailable: the database cannot be used at the moment.
        SchemaUnknown: the copy was made by a newer version.
    """
    parsed = parse_url(url)
    engine = engine_of(parsed, DatabaseLimits())
    with translated_errors(engine):
        with engine.connect() as connection:
            require_empty(connection)
        migrate(parsed, to=schema)
        engine.dispose()
        with writing(engine) as connection:
            lock_tables(connection)
            require_empty(connection)  # a service may have started meanwhile
            start_loading(connection)
            found = MetaData()
            found.reflect(connection)
            rows = (json.loads(line) for line in lines)
            for name, values in _grouped(rows):
                connection.execute(insert(_with_nulls(found.tables[name])), values)
            for table in _numbered(found):
                _continue_numbers(connection, table, numbers.get(table.name, 0))
    engine.dispose()
    return open_database(url)


def stop_attempts(engine: Engine) -> list[str]:
    """Return active jobs to the queue, or cancel those with a cancel request, and return their ids.

    Their processes belong to the service that was backed up. They resume from their checkpoints.
    """
    now = time.time()
    with writing(engine) as connection:
        finish_loading(connection)
        active = [
            job_of(row) for row in connection.execute(select(*JOB_COLUMNS).where(jobs.c.status.in_(sorted(ACTIVE))))
        ]
        for job in active:
            running = (attempts.c.job_id == job.id, attempts.c.number == job.attempt, attempts.c.ended_at.is_(None))
            ended = {"ended_at": now, "outcome": "stopped", "message": RESTORED}
            connection.execute(update(attempts).where(*running).values(ended))
            values: dict[str, Any] = {"stage": None, "lease_owner": None}
            if job.cancel_requested_at is None:
                values["not_before"] = now
                change_status(connection, job, JobStatus.QUEUED, Writer.SUPERVISOR, RESTORED, **values)
                continue
            if job.status is not JobStatus.CANCELLING:
                job = change_status(connection, job, JobStatus.CANCELLING, Writer.SUPERVISOR)
            change_status(connection, job, JobStatus.CANCELLED, Writer.SUPERVISOR, RESTORED, finished_at=now, **values)
    return [job.id for job in active]


def _grouped(rows: Iterator[Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield rows of one table together, at most `_CHUNK` at a time."""
    name = ""
    values: list[dict[str, Any]] = []
    for table, row in rows:
        if values and (table != name or len(values) == _CHUNK):
            yield name, values
            values = []
        name = table
        values.append(row)
    if values:
        yield name, values


def _with_nulls(table: Table) -> Table:
    """Let None be NULL in columns with JSON, not the JSON text `null`."""
    for column in table.columns:
        if isinstance(column.type, JSON):
            column.type = JSON(none_as_null=True)
    return table


def _numbered(tables: MetaData) -> list[Table]:
    """Return the tables whose rows the database numbers."""
    return [
        table
        for name, table in tables.tables.items()
        if name in metadata.tables and metadata.tables[name].dialect_options["sqlite"]["autoincrement"]
    ]


def _number_column(table: Table) -> str:
    return metadata.tables[table.name].primary_key.columns[0].name


def _last_number(connection: Connection, table: Table) -> int:
    if connection.dialect.name == "sqlite":
        query = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
        return connection.execute(query, {"name": table.name}).scalar_one_or_none() or 0
    sequence = _sequence(connection, table)
    return int(
        connection.execute(text(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}")).scalar_one()
    )


def _continue_numbers(connection: Connection, table: Table, last: int) -> None:
    if not last:
        return
    if connection.dialect.name == "sqlite":
        connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": table.name})
        values = {"name": table.name, "last": last}
        connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :last)"), values)
        return
    connection.execute(text("SELECT setval(:name, :last)"), {"name": _sequence(connection, table), "last": last})


def _sequence(connection: Connection, table: Table) -> str:
    query = text("SELECT pg_get_serial_sequence(:table, :column)")
    values = {"table": table.name, "column": _number_column(table)}
    return str(connection.execute(query, values).scalar_one())
