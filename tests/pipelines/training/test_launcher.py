"""Ranks start, meet and end together, even if one of them fails: real processes, without torch."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.waiting import TIMEOUT_S, wait_until

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from pipelines.base.ranks import local_rank
from pipelines.training import launcher
from pipelines.base.errors import DataError, FieldProblem, PyramidionError, Stopped, print_error

folder, scenario, rank = Path(sys.argv[1]), sys.argv[2], local_rank()
launcher.END_TIMEOUT_S = 2.0 if scenario == "hangs" else 60.0

def mark(name):
    (folder / f"{name}-{rank}").write_text(str(os.getpid()))

def before_meeting():
    if rank == 1 and scenario == "dies early":
        os._exit(3)
    if rank == 1 and scenario == "ends early":
        raise DataError(FieldProblem("images", "is not an image"))
    if rank == 1 and scenario == "signal at start":
        mark("starting")
        time.sleep(1.5)

def after_meeting():
    if scenario == "crash of rank 0" and rank == 0:
        raise RuntimeError("an error of rank 0")
    if scenario == "stop":
        raise Stopped("stopped at step 7")
    if scenario == "data error" and rank == 1:
        raise DataError(FieldProblem("images/a.png", "is not an image"))
    if scenario == "killed" and rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if scenario in ("data error", "killed"):
        time.sleep(0.5)
        raise RuntimeError("connection closed by peer")
    if scenario == "hangs":
        time.sleep(0 if rank else 60)
        raise DataError(FieldProblem("images/a.png", "is not an image"))
    if scenario in ("waits", "crash of rank 0"):
        time.sleep(60)
    if scenario == "signal at start":
        while not stopped:
            time.sleep(0.05)
        raise Stopped("stopped")

stopped = []
try:
    if scenario == "signal at start":
        signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    with launcher.supervised_ranks():
        launcher.start_ranks(2)
        before_meeting()
        launcher.wait_for_ranks(rank, 2)
        mark("met")
        after_meeting()
except PyramidionError as error:
    if rank > 0:
        launcher.report_to_rank_zero(error)
        sys.exit(error.exit_code)
    sys.exit(print_error(error))
"""


def started(folder: Path, scenario: str) -> subprocess.Popen[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    (folder / "tmp").mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK",)}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[3]), "TMPDIR": str(folder / "tmp")}
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), scenario],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(path: Path) -> Path:
    wait_until(lambda: path.exists() and path.read_text(), f"{path.name} is written")
    return path


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def group_is_gone(process: subprocess.Popen[str]) -> bool:
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    ("scenario", "code", "expected"),
    [
        ("done", 0, ""),
        ("stop", 75, "stopped at step 7\n"),
        ("data error", 78, "error: images/a.png: is not an image\n"),
        ("ends early", 78, "error: images: is not an image\n"),
        ("dies early", 1, "error: process 1 of this run exited with code 3; see its output above\n"),
        ("killed", 1, "error: process 1 of this run was terminated by SIGKILL (memory may have run out)\n"),
        ("hangs", 78, "error: images/a.png: is not an image\n"),
    ],
)
def test_run_ends_with_one_error_and_its_exit_code_and_removes_its_files(
    scenario: str, code: int, expected: str, tmp_path: Path
) -> None:
    process = started(tmp_path, scenario)
    _, stderr = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, stderr) == (code, expected)
    assert group_is_gone(process)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_error_of_rank_0_keeps_its_traceback_and_ends_the_other_rank(tmp_path: Path) -> None:
    process = started(tmp_path, "crash of rank 0")
    _, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert "RuntimeError: an error of rank 0" in stderr
    assert group_is_gone(process)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_ranks_end_when_rank_0_is_killed(tmp_path: Path) -> None:
    process = started(tmp_path, "waits")
    other = int(wait_for(tmp_path / "met-1").read_text())
    wait_for(tmp_path / "met-0")
    process.kill()
    process.communicate(timeout=TIMEOUT_S)
    wait_until(lambda: not is_running(other), "the end of the other rank")


def test_folder_of_killed_ranks_is_removed_when_the_next_ones_start(tmp_path: Path) -> None:
    process = started(tmp_path, "waits")
    wait_for(tmp_path / "met-1")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=TIMEOUT_S)
    assert len(list((tmp_path / "tmp").iterdir())) == 1
    process = started(tmp_path, "done")
    _, stderr = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, stderr) == (0, "")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_signal_to_the_process_group_while_a_rank_starts_is_not_lost(tmp_path: Path) -> None:
    process = started(tmp_path, "signal at start")
    wait_for(tmp_path / "starting-1")
    os.killpg(process.pid, signal.SIGTERM)
    _, stderr = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, stderr) == (75, "stopped\n")
    assert (tmp_path / "met-1").exists()
