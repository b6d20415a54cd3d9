"""Children of the service exit with the process that started them, no matter when it exits."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from service.child_process import child_environment
from service.executors.process_tree import find_process
from tests.service.waiting import TIMEOUT_S, wait_until

ROOT = Path(__file__).resolve().parents[2]
PARENT = textwrap.dedent("""
    import subprocess, sys
    from service.child_process import child_environment
    child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], env=child_environment())
    print(child.pid, flush=True)
    sys.stdin.read() if sys.argv[2] == "stays" else None
""")


def started(child: str, *, stays: bool) -> tuple[subprocess.Popen[str], int]:
    """Return a process and the pid of the child that it has started."""
    line = [sys.executable, "-c", PARENT, child, "stays" if stays else "goes"]
    process = subprocess.Popen(line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def assert_ends(pid: int) -> None:
    wait_until(lambda: not find_process(pid), "its end", pause_s=0.005)


def test_child_exits_if_its_parent_is_killed() -> None:
    child = "from service.child_process import die_with_parent as d; d(); print('ready', flush=True); input()"
    process, pid = started(child, stays=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.kill()
    process.wait()
    assert_ends(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_child_exits_if_its_parent_has_already_exited(tmp_path: Path, number: int) -> None:
    os.mkfifo(tmp_path / "go")
    child = (
        f"open({str(tmp_path / 'go')!r}).read(); import time; from service.child_process import die_with_parent;"
        f"die_with_parent({int(number)}); time.sleep(600)"
    )
    process, pid = started(child, stays=False)
    process.wait(timeout=TIMEOUT_S)
    assert find_process(pid)
    (tmp_path / "go").write_text("")
    assert_ends(pid)


def test_pid_of_the_parent_is_not_inherited_by_grandchildren() -> None:
    child = "import os; from service.child_process import die_with_parent as d; d(); print(*sorted(os.environ))"
    done = subprocess.run(
        [sys.executable, "-c", child], env=child_environment(), capture_output=True, text=True, timeout=60, check=True
    )
    assert "PYTHONSAFEPATH" in done.stdout
    assert "STARTED_BY" not in done.stdout
