"""Errors of the database reach callers as errors of the store."""

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from service.store.database import open_database, open_database_later, reading, writing
from service.store.engines import DatabaseLimits
from service.store.errors import OutcomeUnknown, SchemaChanged, StoreError, StoreFull, StoreUnavailable
from service.store.jobs import JobStore
from service.store.records import NewJob

NewJobs = Callable[..., NewJob]


def test_locked_database_is_unavailable(sqlite_url: str, new_job: NewJobs) -> None:
    store = JobStore(open_database(sqlite_url, DatabaseLimits(lock_s=0.1)))
    holder = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="another process has locked"):
        store.submit(new_job())
    with pytest.raises(StoreUnavailable):
        store.check_writable()
    assert store.page() == [], "reading is possible"
    holder.execute("ROLLBACK")
    holder.close()
    store.submit(new_job())


def test_full_disk_has_its_own_error(sqlite_url: str) -> None:
    engine = open_database(sqlite_url)
    store = JobStore(engine)
    with pytest.raises(StoreFull, match="disk of the service's database is full"), writing(engine) as connection:  # noqa: PT012
        connection.exec_driver_sql("CREATE TABLE filler (content BLOB)")
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        connection.exec_driver_sql("INSERT INTO filler VALUES (zeroblob(1000000))")
    engine.dispose()
    assert store.page() == []
    assert issubclass(StoreFull, StoreUnavailable)


READ_ONLY = {"sqlite": "PRAGMA query_only = ON", "postgresql": "SET TRANSACTION READ ONLY"}


@pytest.mark.representative
def test_read_only_database_is_unavailable(engine: Engine) -> None:
    with pytest.raises(StoreUnavailable, match="is read-only"), writing(engine) as connection:  # noqa: PT012
        connection.exec_driver_sql(READ_ONLY[engine.dialect.name])
        connection.exec_driver_sql("UPDATE jobs SET priority = 1")
    engine.dispose()


def test_database_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "service.db").mkdir()
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        open_database(f"sqlite:///{tmp_path / 'service.db'}")


def test_mistake_in_a_statement_is_raised_unchanged(engine: Engine) -> None:
    with pytest.raises(DBAPIError, match=r"no such table|does not exist"), reading(engine) as connection:
        connection.exec_driver_sql("SELECT * FROM nowhere")


def test_cause_is_kept_and_no_driver_error_is_a_store_error(url: str, new_job: NewJobs) -> None:
    engine = open_database(url, DatabaseLimits(lock_s=0.05))
    job, _ = JobStore(engine).submit(new_job())
    with writing(engine) as holder:
        holder.exec_driver_sql("UPDATE jobs SET priority = 1")
        with pytest.raises(StoreUnavailable, match="another process has locked") as unavailable:
            JobStore(engine).set_priority(job.id, 2)
    assert isinstance(unavailable.value.__cause__, DBAPIError)
    assert not isinstance(unavailable.value.__cause__, StoreError)


@pytest.mark.representative
def test_schema_of_another_version_is_unavailable(engine: Engine, store: JobStore, new_job: NewJobs) -> None:
    store.submit(new_job())
    with writing(engine) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        connection.exec_driver_sql("ALTER TABLE jobs RENAME COLUMN stage TO phase")
    with pytest.raises(SchemaChanged, match="changed by another version of pyramidion; restart"):
        store.page()
    with pytest.raises(StoreUnavailable):
        store.submit(new_job())


def test_unreachable_server_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be reached: "):
        open_database(f"postgresql://service@/jobs?host={tmp_path}")


def test_commit_whose_connection_breaks_has_an_unknown_outcome(postgres_url: str, new_job: NewJobs) -> None:
    engine = open_database(postgres_url)
    store = JobStore(engine)
    pid = "SELECT pg_backend_pid()"
    with pytest.raises(OutcomeUnknown, match="look whether it was made"), writing(engine) as connection:  # noqa: PT012
        killed = connection.exec_driver_sql(pid).scalar_one()
        with engine.connect() as other:
            other.exec_driver_sql(f"SELECT pg_terminate_backend({killed})")
    assert store.page() == [], "the next call connects again"
    with pytest.raises(StoreUnavailable, match=r"broke|stopping") as unavailable, writing(engine) as connection:  # noqa: PT012
        killed = connection.exec_driver_sql(pid).scalar_one()
        with engine.connect() as other:
            other.exec_driver_sql(f"SELECT pg_terminate_backend({killed})")
        connection.exec_driver_sql(pid)
    assert not isinstance(unavailable.value, OutcomeUnknown)
    engine.dispose()


def test_statement_that_takes_too_long_is_abandoned(postgres_url: str) -> None:
    engine = open_database(postgres_url, DatabaseLimits(statement_s=0.1))
    with pytest.raises(StoreUnavailable, match="took too long to answer"), reading(engine) as connection:
        connection.exec_driver_sql("SELECT pg_sleep(60)")
    assert JobStore(engine).page() == []
    engine.dispose()


def test_missing_driver_is_reported_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ValueError, match=r"driver psycopg is not installed; install pyramidion\[postgres\]"):
        open_database("postgresql://service@localhost/jobs")


def test_database_that_is_unavailable_at_the_start_is_opened_by_a_later_call(tmp_path: Path, new_job: NewJobs) -> None:
    path = tmp_path / "service.db"
    path.mkdir()
    store = JobStore(open_database_later(f"sqlite:///{path}", DatabaseLimits()))
    with pytest.raises(StoreUnavailable):
        store.page()
    path.rmdir()
    store.submit(new_job())
    path.unlink()
    with pytest.raises(StoreUnavailable, match="was deleted"):
        store.page()
