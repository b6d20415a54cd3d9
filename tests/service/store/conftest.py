"""Databases for the tests of the store: SQLite files and databases of a PostgreSQL server, migrated once and copied.

Each test that takes `url` runs on both. On PostgreSQL, the default suite runs the tests with the marker
`representative`, and `make test-reliability` the others.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, make_url

from service.store.database import open_database
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import NewJob
from tests.postgres import create_database, drop_database


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "[postgresql" in item.name and item.get_closest_marker("representative") is None:
            item.add_marker(pytest.mark.reliability)


@pytest.fixture
def sqlite_url(migrated_path: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(migrated_path, tmp_path / 'service.db')}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url


@pytest.fixture
def empty_url(url: str, tmp_path: Path) -> Iterator[str]:
    """A database without tables, of the same kind as `url`."""
    if url.startswith("sqlite"):
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    empty = create_database(Path(str(make_url(url).query["host"])))
    yield empty
    drop_database(empty)


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = open_database(url)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine) -> JobStore:
    return JobStore(engine)


@pytest.fixture
def leased(engine: Engine) -> LeasedStore:
    return LeasedStore(engine, "first")


@pytest.fixture
def new_job() -> Callable[..., NewJob]:
    def new_job(**values: Any) -> NewJob:
        return NewJob(**{"name": "demo", "config": {"name": "demo"}, "priority": 0, "cpus": 1, "gpus": 0, **values})

    return new_job
