"""Attempts on a real Ray. `test_contract.py` runs on it, too, in `make test-reliability`."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from service.executors.base import AttemptSpec, Observation
from service.executors.process_tree import processes, variable_of
from service.executors.ray.executor import RayExecutor
from service.executors.ray.states import SWEPT, submission_id
from service.settings import Settings
from tests.ray_cluster import CPUS, RayForTests
from tests.service.waiting import wait_until

pytestmark = pytest.mark.timeout(1200)
"""The first test waits until Ray has started."""

SECRET = "s3cret-of-the-trainer"
POLITE = "trap 'echo asked; exit 75' TERM; setsid sleep 600 & echo ready; while :; do sleep 0.05; done"


class RayAttempt:
    """One attempt with its executor."""

    def __init__(self, root: Path, executor: RayExecutor) -> None:
        self.executor, self.root = executor, root
        self.folder = root / "jobs" / "job" / "attempts" / "1"

    def start(self, script: str, cpus: int = 1, **environment: str) -> "RayAttempt":
        variables, command = {"PATH": os.environ["PATH"], **environment}, ("/bin/sh", "-c", script)
        self.executor.start(AttemptSpec(self.folder, command, variables, self.root, 8.0, {"cpus": cpus}))
        return self

    def until(self, kind: str) -> Observation:
        wait_until(lambda: self.executor.poll(self.folder).kind == kind, kind, pause_s=0.05)
        return self.executor.poll(self.folder)

    def until_ready(self) -> None:
        wait_until(lambda: "ready" in self.log, "the output of the command", pause_s=0.05)

    @property
    def log(self) -> str:
        path = self.folder / "log.txt"
        return path.read_text() if path.exists() else ""

    def pids(self, words: str) -> list[int]:
        """Return the processes whose command lines contain some words and the folder."""
        lines = {process.pid: " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])}
        return [pid for pid, line in lines.items() if words in line and str(self.folder) in line]

    def until_nothing_remains(self) -> None:
        """Wait for the driver, which ends a moment after the attempt, and fail if any other process remains."""
        wait_until(lambda: not self._remaining(), "the end of all processes")

    def _remaining(self) -> bool:
        found = processes().values()
        return any(variable_of(process, "PYRAMIDION_ATTEMPT_DIR") == str(self.folder) for process in found)


@pytest.fixture
def attempt(ray: RayForTests, tmp_path: Path) -> Iterator[RayAttempt]:
    with ray.used() as settings:
        attempt = RayAttempt(tmp_path, RayExecutor.from_settings(Settings(root=tmp_path, executor="ray", **settings)))
        yield attempt
        wait_until(lambda: attempt.executor.sweep(attempt.folder), "the end of the attempt", pause_s=0.2)


@pytest.mark.integration
def test_attempt_runs_on_ray_and_its_secrets_are_only_in_its_environment(attempt: RayAttempt) -> None:
    attempt.start('echo "$KEY" "$CUDA_VISIBLE_DEVICES" "$RAY_AUTH_TOKEN"; exit 7', KEY=SECRET)
    assert attempt.until("exited").exit_code == 7
    assert attempt.log == f"{SECRET}  \n"
    attempt.until_nothing_remains()
    assert sorted(path.name for path in attempt.folder.iterdir()) == ["exit.json", "log.txt", "run.json"]
    assert SECRET not in str(attempt.executor._cluster._answer("GET", "/api/jobs/"))


@pytest.mark.integration
def test_killed_driver_stops_its_attempt_with_a_checkpoint(attempt: RayAttempt) -> None:
    attempt.start(POLITE).until_ready()
    for pid in attempt.pids("ray.driver"):
        os.kill(pid, signal.SIGKILL)
    assert attempt.until("exited").exit_code == 75
    assert attempt.log == "ready\nasked\n"
    attempt.until_nothing_remains()


@pytest.mark.reliability
def test_request_to_stop_reaches_the_command_alone(attempt: RayAttempt) -> None:
    child = "sh -c 'trap \"echo child too\" TERM; while :; do sleep 0.05; done' &"
    attempt.start(f"{child} {POLITE}").until_ready()
    attempt.executor.stop(attempt.folder)
    assert attempt.until("exited").exit_code == 75
    assert attempt.log == "ready\nasked\n"
    attempt.until_nothing_remains()


@pytest.mark.reliability
def test_attempt_of_a_killed_shim_is_lost_and_leaves_nothing(attempt: RayAttempt) -> None:
    attempt.start(POLITE).until_ready()
    for pid in attempt.pids("service.shim"):
        os.kill(pid, signal.SIGKILL)
    attempt.until("lost")
    job = attempt.executor._cluster.jobs()[submission_id(attempt.folder)]
    assert job.exit_code == SWEPT
    assert attempt.executor.sweep(attempt.folder)
    attempt.until_nothing_remains()


@pytest.mark.reliability
def test_attempt_of_a_killed_shim_and_driver_is_swept_on_its_node(attempt: RayAttempt) -> None:
    attempt.start(POLITE).until_ready()
    for pid in attempt.pids("ray.driver") + attempt.pids("service.shim"):
        os.kill(pid, signal.SIGKILL)
    attempt.until("lost")
    wait_until(lambda: attempt.executor.sweep(attempt.folder), "the sweep", pause_s=0.2)
    attempt.until_nothing_remains()


@pytest.mark.reliability
def test_killed_worker_of_ray_stops_its_attempt_with_a_checkpoint(attempt: RayAttempt) -> None:
    attempt.start(POLITE).until_ready()
    for pid in attempt.pids("ray.driver"):
        psutil.Process(pid).parent().kill()
    assert attempt.until("exited").exit_code == 75
    attempt.until_nothing_remains()


@pytest.mark.reliability
def test_killed_raylet_stops_its_attempts_with_a_checkpoint(ray: RayForTests, attempt: RayAttempt) -> None:
    with ray.with_another_node(CPUS + 1) as node:
        wait_until(lambda: attempt.executor.capacity()["cpus"] == 2 * CPUS + 1, "the node")
        attempt.start(POLITE, cpus=CPUS + 1).until_ready()
        [raylet] = [one for one in psutil.Process(node.pid).children() if one.name() == "raylet"]
        raylet.kill()
        assert attempt.until("exited").exit_code == 75
        attempt.until_nothing_remains()
    wait_until(lambda: attempt.executor.capacity()["cpus"] == CPUS, "the end of the node")
