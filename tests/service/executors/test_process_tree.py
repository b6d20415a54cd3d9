"""Processes are identified by pid and start time, and killed with all their descendants."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from service.executors.process_tree import (
    Process,
    descendants,
    find_process,
    kill,
    lineage,
    processes,
    send_signal,
    start_ticks,
    tree,
    variable_of,
    writes_to,
)
from tests.service.waiting import TIMEOUT_S


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"], env={"PATH": os.environ["PATH"], "MARK": "a=b"})
    yield process
    process.kill()
    process.wait()


def found(process: subprocess.Popen[bytes]) -> Process:
    it = find_process(process.pid)
    assert it is not None
    return it


def test_process_is_found_with_parent_and_session(sleeper: subprocess.Popen[bytes]) -> None:
    it = found(sleeper)
    assert (it.pid, it.parent, it.session) == (sleeper.pid, os.getpid(), os.getsid(0))
    ticks, own_ticks = start_ticks(it), start_ticks(found_self())
    assert ticks is not None
    assert own_ticks is not None
    assert ticks >= own_ticks > 0
    assert processes()[sleeper.pid] == it


def found_self() -> Process:
    it = find_process(os.getpid())
    assert it is not None
    return it


def test_process_name_with_spaces_and_parentheses_is_parsed(tmp_path: Path) -> None:
    program = tmp_path / "a) S 1 (b"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([program, "600"])
    try:
        assert found(process).parent == os.getpid()
        assert (start_ticks(found(process)) or 0) >= (start_ticks(found_self()) or 0) > 0
    finally:
        process.kill()
        process.wait()


def test_process_that_has_not_been_reaped_is_not_living(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert find_process(sleeper.pid) is None
    assert sleeper.pid not in processes()
    sleeper.wait()
    assert find_process(sleeper.pid) is None


def test_process_is_living_after_its_first_thread_has_ended(tmp_path: Path) -> None:
    program = (
        "import ctypes, os, threading, time;"
        "threading.Thread(target=lambda: (print('ready', flush=True), time.sleep(600))).start();"
        "ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 0)"
    )
    process = subprocess.Popen([sys.executable, "-S", "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert find_process(process.pid) is not None
    finally:
        process.kill()
        process.wait()


def test_same_pid_with_another_start_time_is_another_process(sleeper: subprocess.Popen[bytes]) -> None:
    it = found(sleeper)
    stale = psutil.Process(sleeper.pid)
    stale._ident = (sleeper.pid, stale._ident[1] - 0.01)  # as if the pid had been reused since
    assert not send_signal(replace(it, handle=stale), signal.SIGKILL)
    assert start_ticks(replace(it, handle=stale)) is None
    assert sleeper.poll() is None
    assert send_signal(it, signal.SIGKILL)
    assert sleeper.wait(timeout=TIMEOUT_S) == -signal.SIGKILL
    assert not send_signal(it, signal.SIGKILL)


def test_lineage_ends_at_the_first_process() -> None:
    pids = list(lineage(os.getpid(), processes()))
    assert pids[:2] == [os.getpid(), os.getppid()]
    assert len(pids) == len(set(pids))


def test_tree_never_contains_the_caller_or_its_ancestors(sleeper: subprocess.Popen[bytes]) -> None:
    table = processes()
    everything = tree(table.values(), table)
    assert found(sleeper) in everything
    assert {process.pid for process in everything}.isdisjoint(lineage(os.getpid(), table))


def test_descendants_include_those_of_children() -> None:
    process = subprocess.Popen(["sh", "-c", "sh -c 'echo $$; sleep 600; :' ; :"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert child in {below.pid for below in descendants(process.pid, processes())}
        assert process.pid not in {below.pid for below in descendants(process.pid, processes())}
    finally:
        kill(lambda table: {table[process.pid]} if process.pid in table else set())
        process.wait()


def test_kill_includes_descendants_and_returns_whether_any_process_was_alive() -> None:
    script = "setsid sh -c 'trap \"\" TERM; echo $$; sleep 600; :' & wait"
    process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = find_process(int(process.stdout.readline()))
    assert child is not None

    def it(table: dict[int, Process]) -> set[Process]:
        return {table[process.pid]} if process.pid in table else set()

    assert kill(it)  # type: ignore[arg-type]
    assert process.wait(timeout=TIMEOUT_S) == -signal.SIGKILL
    # No remaining process keeps the stream open.
    assert process.stdout.read() == ""
    assert not kill(it)  # type: ignore[arg-type]


def test_variables_are_read_from_the_initial_environment(sleeper: subprocess.Popen[bytes]) -> None:
    it = found(sleeper)
    assert variable_of(it, "MARK") == "a=b"
    assert variable_of(it, "MAR") is None
    sleeper.kill()
    sleeper.wait()
    assert variable_of(it, "MARK") is None


def test_process_is_identified_by_the_file_that_it_writes_to(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(["sleep", "600"], stderr=log)
    try:
        assert writes_to(found(process), tmp_path / "log")
        assert not writes_to(found(process), tmp_path / "other")
    finally:
        process.kill()
        process.wait()
