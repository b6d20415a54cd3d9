"""Attempts as real processes; everything that a test starts in its folder is killed at its end."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.run_folder.layout import ATTEMPT_DIR_VARIABLE
from service.executors.base import AttemptSpec, Observation
from service.executors.local import LocalExecutor
from service.executors.process_tree import Process, processes, variable_of
from tests.service.waiting import wait_until

Wait = Callable[[Callable[[], object]], None]


@pytest.fixture(scope="session")
def wait_for() -> Wait:
    return lambda condition: wait_until(condition, "the condition", pause_s=0.005)


class LocalAttempt:
    """One attempt with its executor."""

    def __init__(self, folder: Path, wait: Wait) -> None:
        self.folder, self.executor, self._wait = folder, LocalExecutor(cpus=1, gpus=0), wait

    def spec(self, *command: str, grace_s: float = 60.0, **environment: str) -> AttemptSpec:
        path = {"PATH": os.environ["PATH"]}
        return AttemptSpec(self.folder, command, {**path, **environment}, self.folder.parent, grace_s, {"cpus": 1})

    def start(self, *command: str, grace_s: float = 60.0, **environment: str) -> "LocalAttempt":
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.executor.start(self.spec(*command, grace_s=grace_s, **environment))
        return self

    def shell(self, script: str, grace_s: float = 60.0) -> "LocalAttempt":
        return self.start("sh", "-c", script, grace_s=grace_s)

    def python(self, program: str, grace_s: float = 60.0) -> "LocalAttempt":
        return self.start(sys.executable, "-S", "-c", program, grace_s=grace_s)

    def poll(self) -> Observation:
        return self.executor.poll(self.folder)

    def until(self, kind: str) -> Observation:
        self._wait(lambda: self.poll().kind == kind)
        return self.poll()

    def until_it_says(self, text: str) -> None:
        self._wait(lambda: text in self.log)

    @property
    def log(self) -> str:
        path = self.folder / "log.txt"
        return path.read_text() if path.exists() else ""

    @property
    def processes(self) -> set[Process]:
        """The processes with its folder in their environment, including its shim."""
        marked = {process: variable_of(process, ATTEMPT_DIR_VARIABLE) for process in processes().values()}
        return {process for process, folder in marked.items() if folder == str(self.folder)}


@pytest.fixture
def attempt(tmp_path: Path, wait_for: Wait) -> Iterator[LocalAttempt]:
    attempt = LocalAttempt(tmp_path / "jobs" / "a" / "attempts" / "1", wait_for)
    yield attempt
    attempt.executor.sweep_orphans((), tmp_path)
