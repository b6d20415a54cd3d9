"""The launchers of two nodes, with commands of the shell in place of the trainer: they start, stop and end together."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.base.errors import ConfigError, RankError
from pipelines.base.ranks import NODE_FOLDER
from pipelines.base.signals import CountedSignals
from pipelines.nodes import first_node, node_process, other_node
from pipelines.nodes.first_node import FirstNode
from pipelines.nodes.other_node import run_other_node
from pipelines.nodes.settings import NodeSettings
from tests.service.waiting import wait_until

READY = f'cd "${NODE_FOLDER}"; echo \'{{"FROM_FIRST": "x"}}\' > .order; mv .order order; touch here; '
HERE = f'cd "${NODE_FOLDER}"; touch here; '
MEET = "until [ -e all-here ]; do sleep 0.02; done; "
FAULT = "until [ -e fault ]; do sleep 0.02; done; "
FOREVER = "while :; do sleep 0.1; done"
FAILING = (
    """echo '{"message": "images/a.png: bad", "exit_code": 78, "failure_kind": "data_invalid"}' > error-0; exit 78"""
)


class Nodes:
    """Two nodes on this host; node 0 runs in this thread, and node 1 in another one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as unused:
            self.port = unused.getsockname()[1]
        self.signals = CountedSignals(), CountedSignals()
        self.threads = ThreadPoolExecutor(1)

    def settings(self, rank: int, num_nodes: int = 2) -> NodeSettings:
        return NodeSettings(rank, num_nodes, "127.0.0.1", self.port)

    def start_other(self, script: str, num_nodes: int = 2) -> "Future[int]":
        command = ("sh", "-c", script)
        return self.threads.submit(run_other_node, command, self.settings(1, num_nodes), self.signals[1])

    def run(self, first: str | Sequence[str], other: str) -> tuple[int, int]:
        """Run the commands on both nodes, and return the exit codes of their launchers."""
        done = self.start_other(other)
        command = ("sh", "-c", first) if isinstance(first, str) else first
        code = FirstNode(command, self.settings(0)).run(self.signals[0])
        return code, done.result()


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nodes:
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    monkeypatch.setattr(other_node, "RETRY_S", 0.02)
    monkeypatch.setattr(node_process, "END_S", 0.0)
    monkeypatch.setattr(first_node, "LATE_S", 60.0)
    return Nodes(tmp_path)


def test_other_node_starts_with_the_order_of_the_first_and_both_end_with_its_code(nodes: Nodes) -> None:
    other = HERE + MEET + 'echo "$FROM_FIRST $PYRAMIDION_NODE_RANK $PYRAMIDION_NUM_NODES $GLOO_SOCKET_IFNAME" > $MARK'
    first = READY + MEET + "until [ -s $MARK ]; do sleep 0.02; done"
    assert nodes.run(first, other) == (0, 0)
    assert (nodes.folder / "mark").read_text() == "x 1 2 lo\n"
    assert nodes.run(READY + MEET + "exit 75", HERE + MEET + FOREVER) == (75, 75)


def test_nothing_starts_on_other_nodes_if_the_first_ends_early(nodes: Nodes) -> None:
    assert nodes.run("exit 78", "touch $MARK") == (78, 78)
    assert not (nodes.folder / "mark").exists()


def test_node_that_starts_after_the_end_of_the_first_ends_too(nodes: Nodes) -> None:
    with ThreadPoolExecutor(1) as thread:
        process = FirstNode(("sh", "-c", "echo $$ > $MARK; exit 78"), nodes.settings(0))
        first = thread.submit(process.run, nodes.signals[0])
        wait_until(lambda: process._process.exit_code == 78, "the end of the first command")
        assert run_other_node(("sh", "-c", "touch $MARK.other"), nodes.settings(1), nodes.signals[1]) == 78
        assert first.result() == 78
    assert not (nodes.folder / "mark.other").exists()


def test_error_of_another_node_reaches_the_first(nodes: Nodes, capfd: pytest.CaptureFixture[str]) -> None:
    first = READY + MEET + FAULT + "cat fault; exit 78"
    assert nodes.run(first, HERE + MEET + FAILING) == (78, 78)
    assert '"images/a.png: bad", "exit_code": 78, "failure_kind": "data_invalid"' in capfd.readouterr().out


@pytest.mark.parametrize("moment", ["", MEET])
def test_killed_process_of_another_node_ends_a_first_node_that_hangs(
    moment: str, nodes: Nodes, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(first_node, "HANG_S", 0.0)
    assert nodes.run(READY + FOREVER, HERE + moment + "kill -9 $$") == (1, 1)
    errors = capfd.readouterr().err
    assert "error: a process of node 1 of this run was terminated by SIGKILL (memory may have run out)" in errors


def test_killed_process_of_the_first_node_ends_the_other(nodes: Nodes) -> None:
    assert nodes.run(READY + MEET + "kill -9 $$", HERE + MEET + FOREVER) == (-9, 137)


def test_first_node_no_longer_needs_the_others_once_it_has_left_them(nodes: Nodes) -> None:
    first = READY + MEET + "touch closed; until [ -e $MARK ]; do sleep 0.02; done"
    assert nodes.run(first, HERE + MEET + "touch $MARK; kill -9 $$") == (0, 0)


def test_first_process_has_time_to_write_its_checkpoint_after_a_stop(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_node, "HANG_S", 0.0)
    first = READY + MEET + "until [ -e $MARK ]; do sleep 0.02; done; sleep 0.3; exit 75"
    assert nodes.run(first, HERE + MEET + "touch $MARK; exit 75") == (75, 75)


def test_stop_on_another_node_asks_the_first_process_which_decides(nodes: Nodes, tmp_path: Path) -> None:
    script = "import os, pathlib, signal; signal.signal(15, lambda *_: os._exit(75)); "
    script += "folder = pathlib.Path(os.environ['PYRAMIDION_NODE_FOLDER']); (folder / 'order').write_text('{}'); "
    script += "signal.pthread_sigmask(signal.SIG_UNBLOCK, [15])\nwhile True: signal.pause()"
    announced = f'cd "${NODE_FOLDER}"; touch $MARK; until [ -e stop ]; do sleep 0.02; done; touch $MARK.stop; {FOREVER}'
    is_started = nodes.folder / "mark"
    timer = threading.Thread(
        target=lambda: (wait_until(is_started.exists, "node 1"), nodes.signals[1]._count(15, None))
    )
    timer.start()
    assert nodes.run((sys.executable, "-S", "-c", script), announced) == (75, 75)
    timer.join()


def test_lost_first_node_ends_the_command_of_the_other(nodes: Nodes) -> None:
    with socket.create_server(("127.0.0.1", nodes.port)) as server:
        done = nodes.start_other("echo $$ > $MARK; " + FOREVER)
        connection, _ = server.accept()
        connection.sendall(b'{"kind": "start", "environment": {}}\n')
        mark = nodes.folder / "mark"
        wait_until(lambda: mark.exists() and mark.read_text(), "the command of node 1")
        connection.close()
        with pytest.raises(RankError, match="the first node of this run was lost: "):
            done.result()
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


def test_node_with_another_number_of_nodes_is_refused(nodes: Nodes) -> None:
    done = nodes.start_other("true", num_nodes=3)
    for _ in range(2):
        done.add_done_callback(lambda _: nodes.signals[0]._count(signal.SIGINT, None))
    with pytest.raises(KeyboardInterrupt):
        FirstNode(("sh", "-c", FOREVER), nodes.settings(0)).run(nodes.signals[0])
    with pytest.raises(ConfigError, match="the first node has 2 nodes, but this one 3"):
        done.result()


def test_address_of_another_machine_is_rejected_on_the_first_node(nodes: Nodes) -> None:
    with pytest.raises(
        ConfigError, match=r"PYRAMIDION_NODES_ADDRESS: got 203.0.113.7:9, where this node cannot listen"
    ):
        FirstNode(("true",), NodeSettings(0, 2, "203.0.113.7", 9))
