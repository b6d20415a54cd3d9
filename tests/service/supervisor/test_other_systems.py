"""Attempts that wait in another system, and systems that do not answer."""

from collections.abc import Callable
from pathlib import Path

import pytest

from service.executors.base import AttemptSpec, ExecutorUnavailable, Observation
from service.executors.local import LocalExecutor
from service.resources import ResourceCounts
from service.states import JobStatus
from service.supervisor import job_watcher, loop
from tests.service.supervisor.conftest import Bench


class Cluster(LocalExecutor):
    """This host as a cluster: what starts waits until there is room, and nothing is answered while it is down."""

    def __init__(self) -> None:
        super().__init__(2, 0)
        self.is_down, self.has_room = False, False
        self.waiting: dict[Path, AttemptSpec] = {}
        self.submitted: list[Path] = []

    def _ask(self) -> None:
        if self.is_down:
            raise ExecutorUnavailable("the cluster does not answer")

    def capacity(self) -> ResourceCounts:
        self._ask()
        return super().capacity()

    def start(self, spec: AttemptSpec) -> None:
        self._ask()
        self.submitted.append(spec.folder)
        self.waiting[spec.folder] = spec

    def poll(self, folder: Path) -> Observation:
        self._ask()
        if self.has_room and folder in self.waiting:
            super().start(self.waiting.pop(folder))
        seen = super().poll(folder)
        return Observation("pending") if seen.kind == "absent" and folder in self.submitted else seen

    def stop(self, folder: Path, *, kill: bool = False) -> None:
        self._ask()
        if self.waiting.pop(folder, None) is not None:
            self.submitted.remove(folder)
        else:
            super().stop(folder, kill=kill)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(loop, "UNAVAILABLE_PAUSE_S", 0.0)
    monkeypatch.setattr(job_watcher, "START_AGAIN_S", 0.0)
    monkeypatch.setattr(job_watcher, "GIVE_UP_START_S", 0.0)
    cluster = Cluster()
    monkeypatch.setattr("tests.service.supervisor.conftest.LocalExecutor", lambda cpus, gpus: cluster)
    return cluster


MakeBench = Callable[..., Bench]


def _tick(made: Bench, times: int = 5) -> None:
    for _ in range(times):
        made.supervisor.tick()


def test_attempt_that_waits_in_the_system_is_submitted_once_however_long_it_waits(
    bench: MakeBench, cluster: Cluster
) -> None:
    made = bench()
    job = made.submit(made.SUCCEED)
    _tick(made)
    made.new_supervisor()
    _tick(made)
    assert made.jobs.get(job.id).status is JobStatus.STARTING
    cluster.has_room = True
    assert made.ended(job).status is JobStatus.SUCCEEDED
    assert len(cluster.submitted) == 1


def test_attempt_that_waits_in_the_system_can_be_cancelled(bench: MakeBench, cluster: Cluster) -> None:
    made = bench()
    job = made.submit(made.SUCCEED)
    _tick(made)
    assert cluster.waiting
    made.jobs.request_cancel(job.id)
    assert made.ended(job).status is JobStatus.CANCELLED
    assert cluster.waiting == {}


def test_silence_of_the_system_ends_no_attempt(bench: MakeBench, cluster: Cluster) -> None:
    made = bench(max_attempts=1)
    cluster.has_room = True
    job = made.submit(made.at_term("exit 75"))
    made.file(job, "ready")
    made.until(job, JobStatus.RUNNING)
    cluster.is_down = True
    waiting = made.submit(made.SUCCEED)
    _tick(made, 3 * loop.MAX_ERRORS)
    assert made.jobs.get(job.id).status is JobStatus.RUNNING
    assert made.jobs.get(waiting.id).status is JobStatus.QUEUED
    cluster.is_down = False
    assert made.ended(waiting).status is JobStatus.SUCCEEDED
    assert len(made.jobs.attempts(job.id)) == 1
