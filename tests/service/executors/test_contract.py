"""The contract of executors, for each that is registered."""

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from service.executors.base import AttemptSpec, Executor, Observation
from service.executors.registry import load_executor, registered_executors
from service.settings import Settings
from tests.service.waiting import wait_until

CLUSTERS = {"ray": "ray", "slurm": "started_slurm"}
"""Executors that need other processes, with the fixture that starts them."""
EXECUTORS = [
    pytest.param(name, marks=pytest.mark.reliability if name in CLUSTERS else ()) for name in registered_executors()
]
METHODS = [name for name, _ in inspect.getmembers(Executor, callable) if not name.startswith("_")]


@dataclass
class Trial:
    """An executor with a folder for its attempts."""

    executor: Executor
    root: Path
    settings: Settings
    started: list[Path] = field(default_factory=list)

    def folder(self, number: int = 1) -> Path:
        return self.root / "jobs" / f"job{number}" / "attempts" / "1"

    def start(self, script: str, number: int = 1, grace_s: float = 30.0) -> Path:
        folder = self.folder(number)
        resources = {"cpus": 1, "gpus": 0}
        devices = self.executor.assign(resources, ())
        environment = {"PATH": os.environ["PATH"]}
        command = ("/bin/sh", "-c", script)
        self.executor.start(AttemptSpec(folder, command, environment, self.root, grace_s, resources, devices))
        self.started.append(folder)
        return folder

    def until(self, folder: Path, kind: str) -> Observation:
        wait_until(lambda: self.executor.poll(folder).kind == kind, kind, pause_s=0.01)
        return self.executor.poll(folder)


@pytest.fixture(params=EXECUTORS)
def trial(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trial]:
    with contextlib.ExitStack() as opened:
        settings = Settings(root=tmp_path / "root", executor=request.param, cpus=2, gpus=0)
        if request.param in CLUSTERS:
            cluster = request.getfixturevalue(CLUSTERS[request.param])
            settings = settings.model_copy(update=opened.enter_context(cluster.used()))
        trial = Trial(load_executor(request.param).from_settings(settings), tmp_path / "root", settings)
        trial.root.mkdir()
        yield trial
        trial.executor.sweep_orphans((), trial.root / "jobs")


@pytest.mark.parametrize("name", registered_executors())
def test_executor_has_every_method_of_the_contract(name: str) -> None:
    loaded = load_executor(name)
    for method in METHODS:
        wanted = inspect.signature(getattr(Executor, method)).parameters
        assert list(inspect.signature(getattr(loaded, method)).parameters) == list(wanted), method


def test_requirements_are_met(trial: Trial) -> None:
    trial.executor.check_requirements(trial.settings)


def test_capacity_includes_cores(trial: Trial) -> None:
    capacity = trial.executor.capacity()
    assert capacity["cpus"] >= 1
    assert all(isinstance(count, int) and count >= 0 for count in capacity.values())


def test_ended_attempt_has_an_exit_code_and_a_log(trial: Trial) -> None:
    folder = trial.start("echo out; echo err >&2; exit 7")
    assert trial.until(folder, "exited").exit_code == 7
    assert (folder / "log.txt").read_text() == "out\nerr\n"


def test_attempt_is_started_once(trial: Trial) -> None:
    folder = trial.start("echo ran")
    trial.start("echo ran")
    trial.until(folder, "exited")
    assert (folder / "log.txt").read_text() == "ran\n"


def test_another_executor_of_the_same_settings_sees_the_attempt(trial: Trial) -> None:
    folder = trial.start("exec sleep 600")
    trial.until(folder, "alive")
    assert type(trial.executor).from_settings(trial.settings).poll(folder).kind == "alive"


@pytest.mark.parametrize("kill", [False, True])
def test_stopped_attempt_exits(trial: Trial, kill: bool) -> None:
    folder = trial.start("exec sleep 600")
    trial.until(folder, "alive")
    trial.executor.stop(folder, kill=kill)
    assert trial.until(folder, "exited").exit_code != 0


def test_sweep_leaves_nothing_running(trial: Trial) -> None:
    folder = trial.start("exec sleep 600")
    trial.until(folder, "alive")
    wait_until(lambda: trial.executor.sweep(folder), "the end of the attempt")
    assert trial.executor.poll(folder).kind in ("exited", "lost")


def test_orphans_are_swept_and_known_attempts_continue(trial: Trial) -> None:
    known, orphan = trial.start("exec sleep 600", 1), trial.start("exec sleep 600", 2)
    for folder in (known, orphan):
        trial.until(folder, "alive")
    trial.executor.sweep_orphans([known], trial.root / "jobs")
    wait_until(lambda: trial.executor.poll(orphan).kind in ("exited", "lost"), "the end of the orphan")
    assert trial.executor.poll(known).kind == "alive"


def test_no_method_raises_for_an_unknown_attempt(trial: Trial) -> None:
    folder = trial.folder()
    calls: list[Callable[[], Any]] = [
        lambda: trial.executor.stop(folder),
        lambda: trial.executor.stop(folder, kill=True),
        lambda: trial.executor.sweep(folder),
        lambda: trial.executor.sweep_orphans((), trial.root / "jobs"),
    ]
    for call in calls:
        call()
    assert trial.executor.poll(folder) == Observation("absent")
