"""An SQLite database whose file is deleted or replaced accepts nothing more, instead of losing what it accepted."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine

from service.store.database import open_database, writing
from service.store.errors import StoreUnavailable
from service.store.jobs import JobStore
from service.store.records import NewJob

NewJobs = Callable[..., NewJob]


@pytest.fixture
def path(sqlite_url: str) -> Path:
    return Path(sqlite_url.removeprefix("sqlite:///"))


@pytest.fixture
def opened(sqlite_url: str) -> Engine:
    return open_database(sqlite_url)


def test_deleted_database_accepts_nothing_and_is_not_created_again(
    path: Path, opened: Engine, new_job: NewJobs
) -> None:
    store = JobStore(opened)
    store.submit(new_job())
    path.unlink()
    for call in (lambda: store.submit(new_job()), store.check_writable, store.page):
        with pytest.raises(StoreUnavailable, match=r"was deleted or cannot be found.*put it back, or restart"):
            call()
    opened.dispose()
    with pytest.raises(StoreUnavailable, match="was deleted"):
        store.page()
    assert not path.exists()


def test_replaced_database_accepts_nothing_until_the_old_file_is_back(
    path: Path, opened: Engine, new_job: NewJobs, migrated_path: Path
) -> None:
    store = JobStore(opened)
    job, _ = store.submit(new_job())
    path.rename(path.with_name("old.db"))
    shutil.copy(migrated_path, path)
    with pytest.raises(StoreUnavailable, match="was replaced"):
        store.submit(new_job())
    path.with_name("old.db").replace(path)
    assert store.get(job.id) == job
    store.submit(new_job())


def test_transaction_is_not_committed_if_the_file_is_deleted_meanwhile(path: Path, opened: Engine) -> None:
    with pytest.raises(StoreUnavailable, match="was deleted"), writing(opened) as connection:  # noqa: PT012
        connection.exec_driver_sql("SELECT 1")
        path.unlink()
