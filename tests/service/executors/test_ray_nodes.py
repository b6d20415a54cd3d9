"""Attempts on two nodes of a real Ray, which are two raylets of one host."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipelines.base.ranks import NODE_FOLDER, NODE_RANK
from service.executors.base import AttemptSpec, Observation
from service.executors.process_tree import processes, variable_of
from service.executors.ray.executor import RayExecutor
from service.executors.ray.places import folder_of
from service.settings import Settings
from tests.ray_cluster import CPUS, RayForTests
from tests.service.waiting import wait_until

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(1800)]

MEET = f"""
cd "${NODE_FOLDER}"
[ ${NODE_RANK} = 1 ] || {{ echo '{{}}' > .order; mv .order order; }}
touch here
until [ -e all-here ]; do sleep 0.02; done
echo met
"""
FOREVER = """
trap 'echo asked; touch stop; exit 75' TERM
while [ ! -e stop ] && [ ! -e fault ]; do sleep 0.05; done
[ -e fault ] && cat fault && exit 1
exit 75
"""


class TwoNodes:
    """An attempt that needs all cores of two nodes."""

    def __init__(self, root: Path, executor: RayExecutor) -> None:
        self.executor, self.root = executor, root
        self.folder = root / "jobs" / "job" / "attempts" / "1"

    def start(self, script: str) -> None:
        environment, resources = {"PATH": os.environ["PATH"]}, {"cpus": 2 * CPUS, "gpus": 0, "nodes": 2}
        command = ("/bin/sh", "-c", script)
        self.executor.start(AttemptSpec(self.folder, command, environment, self.root, 30.0, resources, num_nodes=2))

    def until(self, kind: str) -> Observation:
        wait_until(lambda: self.executor.poll(self.folder).kind == kind, kind, timeout_s=300, pause_s=0.1)
        return self.executor.poll(self.folder)

    def until_both_have_met(self) -> None:
        wait_until(lambda: all("met" in self.log(rank) for rank in (0, 1)), "both nodes", timeout_s=300)

    def log(self, rank: int) -> str:
        path = folder_of(self.folder, rank) / "log.txt"
        return path.read_text() if path.exists() else ""

    def pids(self, words: str) -> list[int]:
        lines = {process.pid: " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])}
        return [pid for pid, line in lines.items() if words in line and str(self.folder) in line]

    def remaining(self) -> list[str]:
        marks = [variable_of(process, "PYRAMIDION_ATTEMPT_DIR") or "" for process in processes().values()]
        return [mark for mark in marks if mark.startswith(str(self.folder))]

    def sweep(self) -> None:
        wait_until(lambda: self.executor.sweep(self.folder), "the sweep", timeout_s=300, pause_s=0.2)
        wait_until(lambda: not self.remaining(), "the end of all processes")


@pytest.fixture(scope="module")
def second_node(ray: RayForTests) -> Iterator["subprocess.Popen[bytes]"]:
    with ray.with_another_node(CPUS) as node:
        yield node


@pytest.fixture
def attempt(ray: RayForTests, second_node: "subprocess.Popen[bytes]", tmp_path: Path) -> Iterator[TwoNodes]:
    with ray.used() as settings:
        executor = RayExecutor.from_settings(Settings(root=tmp_path, executor="ray", **settings))
        wait_until(lambda: executor.capacity()["nodes"] == 2, "the second node")
        attempt = TwoNodes(tmp_path, executor)
        yield attempt
        attempt.sweep()


def test_command_runs_on_both_nodes_and_its_order_is_removed(attempt: TwoNodes) -> None:
    attempt.start(MEET + f"[ ${NODE_RANK} = 1 ] || echo $PYRAMIDION_NODES_ADDRESS")
    assert attempt.until("exited").exit_code == 0
    assert "127.0.0.1:" in attempt.log(0)
    assert "met" in attempt.log(1)
    assert [path.name for path in attempt.folder.iterdir() if path.name.startswith(".order")] == []


def test_stop_reaches_both_nodes_through_the_first(attempt: TwoNodes) -> None:
    attempt.start(MEET + FOREVER)
    attempt.until_both_have_met()
    assert attempt.executor.poll(attempt.folder).kind == "alive"
    attempt.executor.stop(attempt.folder)
    assert attempt.until("exited").exit_code == 75
    assert "asked" in attempt.log(0)
    assert "asked" not in attempt.log(1)
    wait_until(lambda: not attempt.remaining(), "the end of all processes")


@pytest.mark.parametrize("words", ["ray.group_driver", "ray.node_driver"])
def test_killed_drivers_stop_the_attempt_with_a_checkpoint(words: str, attempt: TwoNodes) -> None:
    attempt.start(MEET + FOREVER)
    attempt.until_both_have_met()
    for pid in attempt.pids(words):
        os.kill(pid, signal.SIGKILL)
    assert attempt.until("exited").exit_code == 75


def test_killed_attempt_leaves_nothing_on_either_node(attempt: TwoNodes) -> None:
    attempt.start(MEET + FOREVER)
    attempt.until_both_have_met()
    for pid in attempt.pids("service.shim") + attempt.pids("_driver"):
        os.kill(pid, signal.SIGKILL)
    attempt.until("lost")
    attempt.sweep()


def test_attempt_that_waits_for_nodes_is_stopped_without_running(attempt: TwoNodes) -> None:
    other = TwoNodes(attempt.root / "other", attempt.executor)
    attempt.start(MEET + FOREVER)
    attempt.until_both_have_met()
    other.start(MEET)
    wait_until(lambda: other.pids("ray.group_driver"), "the driver of the other attempt")
    assert other.executor.poll(other.folder).kind == "pending"
    other.executor.stop(other.folder)
    assert other.until("lost").exit_code is None
    other.sweep()
    assert other.log(0) == ""


def test_lost_raylet_stops_the_attempt_with_a_checkpoint(
    attempt: TwoNodes, second_node: "subprocess.Popen[bytes]"
) -> None:
    attempt.start(MEET + FOREVER)
    attempt.until_both_have_met()
    [raylet] = [one for one in psutil.Process(second_node.pid).children() if one.name() == "raylet"]
    raylet.kill()
    assert attempt.until("exited").exit_code == 75
