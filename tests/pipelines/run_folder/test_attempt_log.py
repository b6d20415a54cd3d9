"""An attempt that fails in the service writes failure.json."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.base.errors import (
    ConfigError,
    DataError,
    FieldProblem,
    NumericsError,
    OutOfMemory,
    RankError,
    RegistryError,
    Stopped,
)
from pipelines.run_folder.attempt_files import AttemptFailure
from pipelines.run_folder.attempt_log import attempt_log, failure_kind, failure_recorded
from pipelines.run_folder.layout import ATTEMPT_DIR_VARIABLE, RunDir

ROOT = Path(__file__).parents[3]

ERRORS = [
    (ConfigError(FieldProblem("trainer.max_epochs", "got 0")), "config_invalid"),
    (DataError(FieldProblem("a.json", "is not JSON")), "data_invalid"),
    (NumericsError("loss cells/box is nan"), "numerics"),
    (OutOfMemory("a batch of 16 images does not fit"), "out_of_memory"),
    (RankError("rank 1", 78, "data_invalid"), "data_invalid"),
    (RankError("rank 1"), "internal"),
    (RegistryError("no answer"), "internal"),
    (torch.OutOfMemoryError("CUDA out of memory."), "out_of_memory"),
    (MemoryError(), "out_of_memory"),
    (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
    (OSError(errno.EACCES, "Permission denied"), "internal"),
    (ZeroDivisionError("division by zero"), "internal"),
]


@pytest.mark.parametrize(("error", "kind"), ERRORS, ids=[f"{type(e).__name__}-{k}" for e, k in ERRORS])
def test_error_is_recorded_with_its_kind(
    error: Exception, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ATTEMPT_DIR_VARIABLE, str(tmp_path))
    assert failure_kind(error) == kind
    with pytest.raises(type(error)), failure_recorded():
        raise error
    noted = json.loads((tmp_path / "failure.json").read_text())
    assert noted["kind"] == kind
    assert str(error).splitlines()[:1] == [] or str(error).splitlines()[0] in noted["message"]


@pytest.mark.parametrize("error", [DataError(FieldProblem("a.json", "names caf\udce9")), RuntimeError("caf\udce9")])
def test_reason_with_a_name_that_is_not_utf8_can_be_read(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ATTEMPT_DIR_VARIABLE, str(tmp_path))
    with pytest.raises(type(error)), failure_recorded():
        raise error
    assert "caf\\xe9" in AttemptFailure.read(tmp_path / "failure.json").message


def test_torch_out_of_cpu_memory_is_recognized(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert failure_kind(caught.value) == "out_of_memory"


def test_requested_stop_is_not_recorded_as_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ATTEMPT_DIR_VARIABLE, str(tmp_path))
    with pytest.raises(Stopped), failure_recorded():
        raise Stopped("stopped")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_recorded_outside_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ATTEMPT_DIR_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError), failure_recorded():
        raise ConfigError("wrong")
    assert list(tmp_path.iterdir()) == []


def test_reader_that_has_ended_is_recorded_without_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ATTEMPT_DIR_VARIABLE, raising=False)
    with pytest.raises(BrokenPipeError), attempt_log(RunDir.of(tmp_path)):
        raise BrokenPipeError
    assert json.loads((tmp_path / "attempts/1/exit.json").read_text())["code"] == 141
    assert (tmp_path / "attempts/1/log.txt").read_text() == "the reader of the output has ended\n"


def fit_as_an_attempt(config: Path, run_dir: Path, **environ: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment |= {ATTEMPT_DIR_VARIABLE: str(run_dir / "attempts" / "1"), **{k: str(v) for k, v in environ.items()}}
    return subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "fit", "--config", str(config), "--run-dir", str(run_dir)],
        cwd=run_dir.parent, env=environment, capture_output=True, text=True, timeout=200,
    )  # fmt: skip


def test_invalid_document_is_recorded_before_training_starts(job_yaml: Path, tmp_path: Path) -> None:
    done = fit_as_an_attempt(job_yaml, tmp_path / "run", PYRAMIDION_DATA_ROOTS=tmp_path)
    assert done.returncode == 78
    noted = json.loads((tmp_path / "run" / "attempts" / "1" / "failure.json").read_text())
    assert noted["kind"] == "config_invalid"
    assert noted["message"].startswith("data.root: no folder 'demo' below ")


def test_second_attempt_at_a_finished_run_does_nothing(
    finished: RunDir, demo_root: Path, command: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.path.rglob("*") if path.is_file()}
    words: tuple[Any, ...] = ("fit", "--config", finished.job_yaml, "--data-root", demo_root.parent)
    assert command(*words, "--run-dir", finished.path) == 78
    monkeypatch.setenv(ATTEMPT_DIR_VARIABLE, str(finished.attempt(2)))
    assert command(*words, "--run-dir", finished.path) == 0
    assert {path: path.stat().st_mtime_ns for path in finished.path.rglob("*") if path.is_file()} == before
