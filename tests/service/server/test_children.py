"""Processes that hang are replaced, those that show signs of life are not."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.heartbeat import HeartbeatPipe
from service.server.children import Child, stop
from service.signals import Signals
from tests.service.waiting import wait_until

HANG_S = 0.5
SHELL = {"PATH": os.environ["PATH"]}


@pytest.fixture
def signals() -> Iterator[Signals]:
    with Signals() as signals:
        yield signals


def child(signals: Signals, script: str) -> Child:
    """Return a shell script as a child, which beats by writing to `$PYRAMIDION_HEARTBEAT_FD`."""
    pipe = HeartbeatPipe()
    return Child(
        "test", ("sh", "-c", script), {**SHELL, **pipe.variable}, (pipe.descriptor,), signs=pipe, hang_timeout_s=HANG_S
    )


def pids_until(signals: Signals, tested: Child, condition: object) -> list[int]:
    """Keep the child running until the condition is true, and return the pids it had."""
    pids: list[int] = []

    def is_done() -> bool:
        tested.keep_running()
        if tested.process is not None and tested.process.pid not in pids:
            pids.append(tested.process.pid)
        signals.wait(0.05)
        assert callable(condition)
        return bool(condition(pids))

    try:
        wait_until(is_done, "the condition")
    finally:
        stop([tested], signals)
    return pids


def test_process_that_stops_sending_heartbeats_is_killed_and_replaced(
    signals: Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    tested = child(signals, "printf . >/proc/self/fd/$PYRAMIDION_HEARTBEAT_FD; exec sleep 600")
    assert len(pids_until(signals, tested, lambda pids: len(pids) == 2)) == 2
    first, second, *_ = capfd.readouterr().err.splitlines()
    assert first.startswith("pyramidion serve: the test process hangs: no sign of life for ")
    assert "the test process was terminated by SIGKILL" in second


def test_process_that_is_stopped_by_a_signal_is_replaced(signals: Signals) -> None:
    beating = "while :; do printf . >/proc/self/fd/$PYRAMIDION_HEARTBEAT_FD; sleep 0.05; done"
    tested = child(signals, beating)
    is_stopped: list[int] = []

    def stop_once(pids: list[int]) -> bool:
        assert tested.process is not None
        if not is_stopped:
            is_stopped.append(tested.process.pid)
            tested.process.send_signal(signal.SIGSTOP)
        return len(pids) == 2

    pids = pids_until(signals, tested, stop_once)
    assert pids[0] == is_stopped[0]


def test_process_that_sends_heartbeats_is_kept(signals: Signals) -> None:
    """The test sends them in the child's place, since a busy machine may hold the child up."""
    pipe = HeartbeatPipe()
    command = ("sh", "-c", "exec sleep 600")
    tested = Child("test", command, SHELL, (pipe.descriptor,), signs=pipe, hang_timeout_s=HANG_S)

    def beat(_: list[int]) -> bool:
        os.write(pipe.descriptor, b".")
        return time.monotonic() > started + 3 * HANG_S

    started = time.monotonic()
    assert len(pids_until(signals, tested, beat)) == 1


def test_start_may_take_longer_than_the_limit(signals: Signals) -> None:
    started = time.monotonic()
    tested = child(signals, "exec sleep 600")
    assert len(pids_until(signals, tested, lambda _: time.monotonic() > started + 3 * HANG_S)) == 1


def test_process_that_cannot_be_started_is_tried_again(signals: Signals, tmp_path: Path) -> None:
    program = tmp_path / "program"
    tested = Child("test", (str(program),), SHELL)
    tested.keep_running()
    assert tested.process is None
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    assert len(pids_until(signals, tested, bool)) == 1


def test_exit_by_a_signal_without_a_name_is_reported(signals: Signals, capfd: pytest.CaptureFixture[str]) -> None:
    tested = Child("test", ("sh", "-c", "kill -40 $$"), SHELL)
    pids_until(signals, tested, lambda _: "signal 40" in capfd.readouterr().err)


ORPHANS = textwrap.dedent("""
    import os, subprocess, sys, time
    from pathlib import Path
    from service.child_process import adopt_orphans
    from service.server.orphans import inherits_orphans, reap_orphans, stop_orphans
    from service.signals import Signals
    assert not inherits_orphans()
    adopt_orphans()
    assert inherits_orphans()
    own = subprocess.Popen(["sh", "-c", "exit 3"])
    subprocess.run(["sh", "-c", "sleep 0 & sleep 0 & :"], check=True)
    os.waitid(os.P_PID, own.pid, os.WEXITED | os.WNOWAIT)
    assert reap_orphans([own.pid])
    assert own.wait() == 3  # the exit code is not lost
    while reap_orphans(()):
        time.sleep(0.02)
    # Like the shim of an attempt, the process has outlived its parent.
    subprocess.run(["sh", "-c", f"(trap 'echo stopped >{sys.argv[1]}; exit' TERM; echo ready >{sys.argv[1]}; "
                    "while :; do sleep 0.05; done) &"], check=True)
    while not Path(sys.argv[1]).exists() or not Path(sys.argv[1]).read_text():
        time.sleep(0.02)
    with Signals() as signals:
        stop_orphans(60, signals)
    assert not reap_orphans(())
    print(Path(sys.argv[1]).read_text())
""")


def test_first_process_of_a_container_reaps_orphans_and_stops_attempts_before_it_exits(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ORPHANS, str(tmp_path / "attempt")]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "stopped\n\n"), done.stderr
    assert "1 process(es) of running attempts would end with this container" in done.stderr
