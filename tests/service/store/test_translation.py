"""Errors of the database reach callers as errors of the store."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from service.store import database
from service.store.database import open_database, reading, writing
from service.store.errors import StoreError, StoreFull, StoreUnavailable
from service.store.jobs import JobStore
from service.store.records import NewJob

NewJobs = Callable[..., NewJob]


def test_locked_database_is_unavailable(url: str, new_job: NewJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.1)
    store = JobStore(open_database(url))
    holder = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="another process has locked"):
        store.submit(new_job())
    with pytest.raises(StoreUnavailable):
        store.check_writable()
    assert store.page() == [], "reading is possible"
    holder.execute("ROLLBACK")
    holder.close()
    store.submit(new_job())


def test_full_disk_has_its_own_error(engine: Engine, store: JobStore, new_job: NewJobs) -> None:
    with pytest.raises(StoreFull, match="disk of the service's database is full"), writing(engine) as connection:  # noqa: PT012
        connection.exec_driver_sql("CREATE TABLE filler (content BLOB)")
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        connection.exec_driver_sql("INSERT INTO filler VALUES (zeroblob(1000000))")
    engine.dispose()
    assert store.page() == []
    assert issubclass(StoreFull, StoreUnavailable)


def test_read_only_database_is_unavailable(engine: Engine) -> None:
    with pytest.raises(StoreUnavailable, match="is read-only"), writing(engine) as connection:  # noqa: PT012
        connection.exec_driver_sql("PRAGMA query_only = ON")
        connection.exec_driver_sql("UPDATE jobs SET priority = 1")
    engine.dispose()


def test_database_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "service.db").mkdir()
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        open_database(f"sqlite:///{tmp_path / 'service.db'}")


def test_mistake_in_a_statement_is_raised_unchanged(engine: Engine) -> None:
    with pytest.raises(OperationalError, match="no such table"), reading(engine) as connection:
        connection.exec_driver_sql("SELECT * FROM nowhere")


def test_cause_is_kept_and_no_driver_error_is_a_store_error(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.0)
    engine = open_database(url)
    with writing(engine), pytest.raises(StoreError) as unavailable, writing(engine):
        pass
    assert isinstance(unavailable.value.__cause__, DBAPIError)
