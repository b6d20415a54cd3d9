"""The driver of an attempt whose node shares no disk with the service; without a cluster."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.run_folder.attempt_files import AttemptExit
from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import AttemptDir, RunDir
from service.executors.ray.states import NO_ORDER
from service.executors.shim_contract import Order
from service.run_sync import ray_driver
from service.run_sync.handover import Decision, Ending, Handover
from service.run_sync.order import KEPT, STORAGE_FAILED, NodeOrder
from service.storage.base import StorageUnavailable
from tests.service.run_sync.folder_objects import FolderObjects, unavailable


@pytest.fixture
def node(tmp_path: Path) -> NodeOrder:
    """An attempt of which files are on its node."""
    node = NodeOrder("http://not-s3", 1.0, 5.0, "job1", 1, 8.0, str(tmp_path / "scratch"))
    write_atomic(node.folder / "checkpoints" / "last.ckpt", "1")
    return node


@pytest.fixture
def held_signals() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    yield
    signal.sigtimedwait({signal.SIGTERM}, 0)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def attempt_folder(node: NodeOrder) -> Path:
    return RunDir.of(node.folder).attempt(node.attempt)


def test_driver_waits_for_a_storage_that_is_away(
    store: FolderObjects, handover: Handover, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_driver, "PUSH_EVERY_S", 0.001)
    failures = iter(range(3))

    def before() -> None:
        if next(failures, None) is not None:
            unavailable()

    store.before = before
    assert ray_driver.taken(handover, 60.0) == order


def test_driver_gives_up_after_the_time_for_the_storage(store: FolderObjects, handover: Handover) -> None:
    store.before = unavailable
    with pytest.raises(StorageUnavailable):
        ray_driver.taken(handover, 0.0)


@pytest.mark.usefixtures("held_signals")
def test_driver_that_is_asked_to_exit_takes_no_order(handover: Handover) -> None:
    signal.raise_signal(signal.SIGTERM)
    assert ray_driver.taken(handover, 60.0) is None
    assert handover.decision() is Decision.WAITING


@pytest.mark.usefixtures("held_signals")
def test_order_that_cannot_be_fetched_is_reported(
    node: NodeOrder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ray_driver", str(attempt_folder(node)), node.to_json()])
    assert ray_driver.main() == NO_ORDER
    assert "the order of the attempt cannot be fetched: PYRAMIDION_RUN_STORAGE: got 'http'" in capsys.readouterr().err


def test_end_is_reported_and_the_scratch_folder_removed(handover: Handover, node: NodeOrder) -> None:
    AttemptExit(-9).write(AttemptDir(attempt_folder(node)).exit_json)
    write_atomic(AttemptDir(attempt_folder(node)).log, "killed\n")
    ray_driver.report_end(handover, attempt_folder(node), node)
    assert handover.ending() == Ending(exit=AttemptExit(-9), log="killed")
    assert not node.folder.exists()


def test_files_that_are_not_stored_stay_on_the_node(handover: Handover, node: NodeOrder) -> None:
    (node.folder / KEPT).touch()
    AttemptExit(STORAGE_FAILED).write(AttemptDir(attempt_folder(node)).exit_json)
    ray_driver.report_end(handover, attempt_folder(node), node)
    assert (node.folder / "checkpoints" / "last.ckpt").read_text() == "1"


def test_attempt_without_an_exit_reports_none(handover: Handover, node: NodeOrder) -> None:
    """Its shim was killed, and this driver has killed the rest, which its exit code says."""
    ray_driver.report_end(handover, attempt_folder(node), node)
    assert handover.ending() is None
    assert not node.folder.exists()
