"""Databases for the tests of the store: real files, migrated once and copied."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from service.store.database import open_database
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import NewJob


@pytest.fixture(scope="session")
def migrated_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database with the newest schema, which no process has open."""
    path = tmp_path_factory.mktemp("database") / "service.db"
    open_database(f"sqlite:///{path}").dispose()
    return path


@pytest.fixture
def url(migrated_path: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(migrated_path, tmp_path / 'service.db')}"


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
