"""A row that cannot be read does not stop the checks of other data sets."""

import asyncio
import time
from pathlib import Path

from sqlalchemy import text

from service.api.thread_pools import ThreadPools, Work
from service.datasets.checks import DatasetChecks
from service.principal import LOCAL_USER
from service.settings import Settings
from service.storage.local import LocalStorage
from service.store.database import open_database
from service.store.dataset_records import NewDatasetVersion
from service.store.datasets import DatasetStore


def test_checks_continue_beside_a_damaged_row(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path)
    settings.datasets_dir.write_text("a file in the place of the folder, so that a check cannot start its process")
    engine = open_database(settings.url_of_database)
    store = DatasetStore(engine)
    for content in ("a", "b"):
        new = NewDatasetVersion(id=f"id{content}", name=content, sha256=content * 64, content_sha256=content * 64)
        store.create(new, LOCAL_USER, 1 << 30)
    store.start_deletion("ida")
    with engine.begin() as connection:
        connection.execute(text("UPDATE dataset_versions SET sources = '{' WHERE id = 'ida'"))

    async def check() -> str | None:
        pools = ThreadPools(settings)
        checks = DatasetChecks(store, LocalStorage(tmp_path / "archives"), settings, pools[Work.DATASET_CHECKS])
        running = asyncio.create_task(checks.run())
        deadline = time.monotonic() + 60
        while (message := store.find(None, "b", "b" * 64).message) is None and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        pools.close()
        return message

    assert str(asyncio.run(check())).startswith("the server cannot check it")
    engine.dispose()
