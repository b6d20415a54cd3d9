"""The order of an attempt, with its credentials, is removed by the driver on every way out; without a cluster."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.run_folder.attempt_files import AttemptExit, ShimProcess
from pipelines.run_folder.layout import AttemptDir
from service.executors.base import AttemptSpec
from service.executors.local import LocalExecutor
from service.executors.ray import driver
from service.executors.ray.order import OrderFile
from service.executors.ray.states import SWEPT
from service.executors.shim_contract import order_path


@pytest.fixture
def taken(tmp_path: Path) -> OrderFile:
    file = OrderFile(tmp_path)
    file.write(AttemptSpec(tmp_path, ("sh", "-c", "x"), {"KEY": "s3cret"}, tmp_path, 5.0, {"cpus": 1}))
    assert file.take(()) is not None
    return file


@pytest.fixture
def released_signals() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow(file: OrderFile) -> int:
    return driver.follow(LocalExecutor(cpus=1, gpus=0), file, file.folder)


def test_order_of_an_attempt_that_has_ended_is_removed(taken: OrderFile) -> None:
    ShimProcess().write(AttemptDir(taken.folder).run_json)
    AttemptExit(code=7).write(AttemptDir(taken.folder).exit_json)
    assert follow(taken) == 0
    assert not taken.is_taken


def test_order_of_an_attempt_whose_shim_was_killed_is_removed(taken: OrderFile) -> None:
    ShimProcess().write(AttemptDir(taken.folder).run_json)
    assert follow(taken) == SWEPT
    assert not taken.is_taken


def test_order_of_an_attempt_that_never_appeared_is_removed(taken: OrderFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "START_S", -1.0)
    assert follow(taken) == SWEPT
    assert list(taken.folder.iterdir()) == []


@pytest.mark.usefixtures("released_signals")
def test_order_that_cannot_be_read_is_reported_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    order_path(tmp_path).symlink_to(tmp_path / "missing")
    monkeypatch.setattr(sys, "argv", ["driver", str(tmp_path)])
    assert driver.main() == 1
    assert "the order of the attempt cannot be read" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
