"""A run in its own process is stopped by SIGTERM, killed, and started again until it is finished."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.run_folder.layout import RunDir
from pipelines.spec.load import apply_override, write_yaml

Document = dict[str, Any]

ROOT = Path(__file__).parents[3]


def start(job_yaml: Path, demo_root: Path, run_dir: Path) -> subprocess.Popen[str]:
    words = ["fit", "--config", str(job_yaml), "--data.root", str(demo_root), "--run-dir", str(run_dir)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *words],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=run_dir.parent, env=environment,
    )  # fmt: skip


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def reported_steps(run_dir: RunDir) -> int:
    return run_dir.events.read_bytes().count(b'"progress"') if run_dir.events.exists() else 0


@pytest.mark.slow
def test_run_finishes_after_a_stop_and_a_kill_at_any_moment(small: Document, demo_root: Path, tmp_path: Path) -> None:
    job_yaml = tmp_path / "job.yaml"
    document = apply_override(apply_override(small, "data.num_workers", 2), "trainer.max_epochs", 4)
    job_yaml.write_text(write_yaml(document))
    run_dir = RunDir.of(tmp_path / "run")

    with start(job_yaml, demo_root, run_dir.path) as stopped:
        wait_until(lambda: reported_steps(run_dir) > 0, stopped)
        steps = reported_steps(run_dir)
        stopped.send_signal(signal.SIGTERM)
        output = stopped.communicate(timeout=120)[1]
    assert stopped.returncode == 75, output
    assert f"saved in {run_dir.last_checkpoint}" in output
    assert "Traceback" not in output
    assert reported_steps(run_dir) <= steps + 2
    assert json.loads((run_dir.attempt(1) / "exit.json").read_text())["code"] == 75
    assert run_dir.last_checkpoint.exists()

    with start(job_yaml, demo_root, run_dir.path) as killed:
        before = reported_steps(run_dir)
        wait_until(lambda: reported_steps(run_dir) > before, killed)
        time.sleep(time.time() % 0.5)
        killed.kill()
        killed.communicate(timeout=60)

    with start(job_yaml, demo_root, run_dir.path) as last:
        output = last.communicate(timeout=120)[1]
    assert last.returncode == 0, output
    assert json.loads(run_dir.result.read_text())["split"] == "test"
    assert json.loads((run_dir.attempt(3) / "exit.json").read_text())["code"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("delay_s", [0.05, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0])
def test_run_can_be_started_again_after_a_signal_at_any_moment(
    number: signal.Signals, delay_s: float, small: Document, demo_root: Path, tmp_path: Path
) -> None:
    job_yaml = tmp_path / "job.yaml"
    job_yaml.write_text(write_yaml(apply_override(small, "trainer.max_epochs", 1)))
    run_dir = RunDir.of(tmp_path / "run")
    with start(job_yaml, demo_root, run_dir.path) as process:
        time.sleep(delay_s)
        process.send_signal(number)
        process.communicate(timeout=120)
    with start(job_yaml, demo_root, run_dir.path) as again:
        output = again.communicate(timeout=120)[1]
    assert again.returncode == 0 or (process.returncode == 0 and again.returncode == 78), output
    assert run_dir.result.exists()
