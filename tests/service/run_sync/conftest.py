"""A storage, and an attempt that is handed over through it."""

from pathlib import Path

import pytest

from service.executors.shim_contract import Order
from service.run_sync.commits import JobObjects
from service.run_sync.handover import Handover
from tests.service.run_sync.folder_objects import FolderObjects


@pytest.fixture
def store(tmp_path: Path) -> FolderObjects:
    return FolderObjects(tmp_path / "storage")


@pytest.fixture
def order() -> Order:
    return {"command": ["train"], "environment": {"KEY": "s3cret"}}


@pytest.fixture
def handover(store: FolderObjects, order: Order) -> Handover:
    """The handover of the first attempt of `job1`, whose order waits."""
    handover = Handover(JobObjects(store, "job1"), 1)
    handover.publish(order)
    return handover
