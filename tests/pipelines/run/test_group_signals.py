"""Signals to the process group of a command with data workers, as `timeout`, systemd, Slurm and Ctrl-C send them."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.data.synth.dataset import write_synthetic
from pipelines.run_folder.layout import RunDir
from pipelines.spec.load import write_yaml
from tests.service.waiting import TIMEOUT_S, wait_until

Document = dict[str, Any]

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose val and test splits take some seconds."""
    root = tmp_path_factory.mktemp("data") / "demo"
    write_synthetic(root, num_train=16, num_val=250, num_test=250, image_size=128)
    return root


@pytest.fixture
def job_yaml(small_document: Document, tmp_path: Path) -> Path:
    small_document["data"]["num_workers"] = 2
    small_document["data"]["sources"]["shapes"]["batch_size"] = 2
    small_document["model"]["tasks"]["identity"]["gallery"] = "train"
    path = tmp_path / "job.yaml"
    path.write_text(write_yaml(small_document))
    return path


def start(folder: Path, *words: str | Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "service.cli", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def wait_while_running(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    def is_met() -> bool:
        is_running = process.poll() is None
        return condition() or not is_running

    wait_until(is_met, "the condition", pause_s=0.005)
    assert condition(), process.communicate()[0]


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Return exit code and output; check that no process of the group is left."""
    output, _ = process.communicate(timeout=TIMEOUT_S)
    wait_until(lambda: not _group_exists(process.pid), "the end of the group", pause_s=0.05)
    return process.returncode, output


def _group_exists(group: int) -> bool:
    with suppress(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False


def has_event(run_dir: RunDir, text: str) -> Callable[[], bool]:
    return lambda: run_dir.events.exists() and text in run_dir.events.read_text()


def fit(folder: Path, job_yaml: Path, data_root: Path) -> "subprocess.Popen[str]":
    return start(folder, "fit", "--config", job_yaml, "--data.root", data_root, "--run-dir", folder / "run")


@pytest.mark.integration
def test_signal_to_the_group_stops_a_run_with_workers_with_a_checkpoint_and_says_how_to_resume(
    job_yaml: Path, data_root: Path, tmp_path: Path
) -> None:
    run_dir = RunDir.of(tmp_path / "run")
    process = fit(tmp_path, job_yaml, data_root)
    wait_while_running(has_event(run_dir, '"progress"'), process)
    os.killpg(process.pid, signal.SIGTERM)
    code, output = ended(process)
    assert code == 75, output
    assert "error:" not in output
    assert "Traceback" not in output
    assert f"saved in {run_dir.last_checkpoint}\n" in output
    command = output.split("resume with: pyramidion ")[1].splitlines()[0]

    process = start(tmp_path, *shlex.split(command))
    # The last batch of the first epoch; its validation follows.
    wait_while_running(has_event(run_dir, '"batch": 8, "batches": 8'), process)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    code, output = ended(process)
    assert code == 75, output
    assert output.count("stopping as soon as this can be resumed; press Ctrl-C again to end at once") == 1
    assert "error:" not in output
    assert "Traceback" not in output
    assert "stopped in epoch 1 of 2, after step 4; saved in" in output
    assert '"metric"' not in run_dir.events.read_text()


@pytest.mark.parametrize(
    ("library", "number"),
    [
        ("_pydantic_core", signal.SIGINT),
        ("libtorch_cpu", signal.SIGTERM),
        pytest.param("_pydantic_core", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("libtorch_cpu", signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_signal_to_the_group_while_the_command_starts_ends_it_without_a_traceback(
    number: signal.Signals, library: str, job_yaml: Path, data_root: Path, tmp_path: Path
) -> None:
    """The signal arrives when the trainer imports a library: one of the first, or one of the largest."""
    process = fit(tmp_path, job_yaml, data_root)
    proc = Path(f"/proc/{process.pid}")
    wait_while_running(
        lambda: b"pipelines.cli" in (proc / "cmdline").read_bytes() and library in (proc / "maps").read_text(), process
    )
    os.killpg(process.pid, number)
    code, output = ended(process)
    assert code == 75, output
    assert "stopped before training" in output
    assert "Traceback" not in output
    assert "error:" not in output


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("num_ranks", [1, 2])
def test_signal_to_the_group_in_the_final_scoring_writes_no_result_and_the_next_command_does(
    num_ranks: int, number: signal.Signals, job_yaml: Path, data_root: Path, tmp_path: Path
) -> None:
    run_dir = RunDir.of(tmp_path / "run")
    words = ["--trainer.devices", str(num_ranks), "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
    command = ["fit", "--config", job_yaml, "--data.root", data_root, "--run-dir", run_dir.path, *words]
    process = start(tmp_path, *command)
    wait_while_running(has_event(run_dir, '"evaluating"'), process)
    time.sleep(0.3)
    os.killpg(process.pid, number)
    code, output = ended(process)
    assert code == 75, output
    assert "Traceback" not in output
    assert "error:" not in output
    assert not run_dir.result.exists()
    code, output = ended(start(tmp_path, *command))
    assert code == 0, output

    for words in (["test"], ["validate"], ["predict", "--split", "val"]):
        process = start(tmp_path, words[0], "--run-dir", run_dir.path, *words[1:])
        time.sleep(7)
        os.killpg(process.pid, number)
        code, output = ended(process)
        assert code == 75, output
        assert "run the same command again" in output
        assert "Traceback" not in output
        assert not list(run_dir.path.glob("eval/*/*.json"))


@pytest.mark.integration
def test_killed_worker_ends_the_run_with_one_line(job_yaml: Path, data_root: Path, tmp_path: Path) -> None:
    run_dir = RunDir.of(tmp_path / "run")
    process = fit(tmp_path, job_yaml, data_root)
    wait_while_running(has_event(run_dir, '"progress"'), process)
    workers = psutil.Process(process.pid).children()
    workers[0].kill()
    code, output = ended(process)
    assert code == 1, output
    assert "Traceback" not in output
    assert (
        f"error: a data worker (process {workers[0].pid}) was ended by the signal Killed, as the system does" in output
    )
    assert json.loads((run_dir.attempt(1) / "exit.json").read_text())["code"] == 1
