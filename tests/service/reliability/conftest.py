"""Clusters on SQLite and on PostgreSQL. The full versions of these tests run in `make test-reliability`."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.reliability.cluster import Cluster

REPETITIONS = int(os.environ.get("RELIABILITY_REPETITIONS", "20"))


@pytest.fixture(scope="session")
def repetitions() -> int:
    """The number of repetitions of tests that do something at random moments."""
    return REPETITIONS


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'service.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def cluster(tmp_path: Path, database_url: str) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, database_url)
    yield cluster
    cluster.close()
