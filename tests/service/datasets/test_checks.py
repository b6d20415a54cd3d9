"""Checks in processes of their own, whose archives are in S3."""

import asyncio
import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update

from service.api.thread_pools import ThreadPools, Work
from service.datasets.checks import MAX_ATTEMPTS, DatasetChecks
from service.principal import LOCAL_USER
from service.settings import Settings
from service.storage.base import ArchiveKey
from service.storage.opening import open_storage
from service.store.database import open_database
from service.store.dataset_records import DatasetStatus, DatasetVersion, NewDatasetVersion
from service.store.datasets import DatasetStore
from service.store.tables import dataset_versions
from tests.service.dataset_archives import write_dataset, zipped
from tests.service.dataset_requests import files_below

DEADLINE_S = 120.0


@pytest.fixture
def settings(tmp_path: Path, s3_url: str) -> Settings:
    return Settings(root=tmp_path / "root", storage_url=s3_url, storage_timeout_s=20)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = open_database(settings.url_of_database)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine) -> DatasetStore:
    return DatasetStore(engine)


@pytest.fixture
def stored(settings: Settings, store: DatasetStore, tmp_path: Path) -> str:
    """The id of a version that is to be checked."""
    write_dataset(tmp_path / "shapes")
    content = zipped(tmp_path / "shapes")
    digest = hashlib.sha256(content).hexdigest()
    open_storage(settings.storage_url, tmp_path, 20).put(ArchiveKey(digest, "id1"), io.BytesIO(content))
    store.create(NewDatasetVersion("id1", "shapes", digest, digest, len(content)), LOCAL_USER, 1 << 30)
    return "id1"


def run_until(settings: Settings, store: DatasetStore, condition: Callable[[DatasetVersion], Any]) -> DatasetVersion:
    """Run checks until the only version meets a condition, and return the version."""

    async def run() -> DatasetVersion:
        storage = open_storage(settings.storage_url, settings.datasets_dir, settings.storage_timeout_s)
        pools = ThreadPools(settings)
        running = asyncio.create_task(DatasetChecks(store, storage, settings, pools[Work.DATASET_CHECKS]).run())
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not condition(version := store.page(None)[0]):
                    await asyncio.sleep(0.05)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            pools.close()
        return version

    return asyncio.run(run())


@pytest.mark.integration
def test_check_waits_for_its_storage_however_long_it_takes_and_succeeds_then(
    settings: Settings, engine: Engine, store: DatasetStore, stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(MAX_ATTEMPTS):
        assert store.claim_check(f"earlier {number}", 60) is not None
        assert store.postpone_check(stored, f"earlier {number}", 0.0)
    with monkeypatch.context() as outage:
        outage.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        brief = settings.model_copy(update={"storage_timeout_s": 0.2})
        waiting = run_until(brief, store, lambda version: version.message)
    assert (waiting.status, waiting.check_attempts) == (DatasetStatus.CHECKING, MAX_ATTEMPTS + 1)
    assert str(waiting.message).endswith("; the check is repeated")
    assert settings.storage_url is not None
    assert settings.storage_url in str(waiting.message)
    assert files_below(settings.datasets_dir) == []
    # The delay is over, as it would be after some minutes.
    with engine.begin() as connection:
        connection.execute(update(dataset_versions).values(check_due_at=0.0))
    ready = run_until(settings, store, lambda version: version.status is not DatasetStatus.CHECKING)
    assert (ready.status, ready.message, ready.num_images) == (DatasetStatus.READY, None, 4)
    assert {path.name for path in settings.datasets_dir.iterdir()} == {stored}
