"""`export` and `bench-model` work on the folder of a finished run, with all of its tasks."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.export_cli import main
from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.run_folder.layout import RunDir
from pipelines.spec.load import write_yaml

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print(flush=True)
input()
"""


@pytest.fixture(scope="module")
def run(finished: RunDir, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "run"
    shutil.copytree(finished.path, path)
    return path


@pytest.mark.integration
def test_run_is_exported_evaluated_and_measured(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--run-dir", str(run), "--to", "onnx", "--test", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["servable"]
    names = {f"{split}/{name}" for split in ("val", "test") for name in ("shapes/AP", "scene/mAP")}
    assert {*names, "val/identity/recall_at_1"} <= set(result["metrics"])
    exports = ExportsDir.of(run)
    assert json.loads(exports.report.read_text()) == {"variants": {"onnxruntime-fp32": result}}

    assert main(["bench-model", "--run-dir", str(run), "--batch", "2", "--threads", "1", "--rounds", "2"]) == 0
    assert "onnxruntime-fp32" in capsys.readouterr().out
    rows = json.loads(exports.benchmark.read_text())["rows"]
    assert [(row["name"], row["batch"], row["threads"]) for row in rows] == [
        ("torch-fp32", 2, 1),
        ("onnxruntime-fp32", 2, 1),
    ]


@pytest.mark.integration
def test_run_without_a_model_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run"
    shutil.copytree(run, path, ignore=shutil.ignore_patterns("model", "exports"))
    assert main(["export", "--run-dir", str(path), "--to", "onnx"]) == 78
    assert "has no model; let `pyramidion fit` finish" in capsys.readouterr().err


@pytest.fixture
def unfinished(small_document: dict[str, Any], tmp_path: Path) -> RunDir:
    """A run folder with what is looked at before anything is loaded."""
    run_dir = RunDir.of(tmp_path / "run")
    run_dir.best_checkpoint.parent.mkdir(parents=True)
    run_dir.best_checkpoint.touch()
    run_dir.config_yaml.write_text(write_yaml(small_document))
    return run_dir


def test_run_folder_that_cannot_be_written_is_refused_before_anything_is_loaded(
    unfinished: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    unfinished.lock.mkdir()
    assert main(["export", "--run-dir", str(unfinished.path), "--to", "onnx", "--json"]) == 78
    printed = capsys.readouterr()
    assert f"--run-dir: {unfinished.path} cannot be written (Is a directory); name another folder" in printed.err
    assert json.loads(printed.out)[0]["field"] == "--run-dir"


def test_second_export_of_a_run_at_the_same_time_is_refused_before_anything_is_loaded(
    unfinished: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-c", HOLD, str(unfinished.lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()
        assert main(["export", "--run-dir", str(unfinished.path), "--to", "onnx"]) == 78
        first.communicate(b"\n")
    assert f"{unfinished.path} is in use by another process; wait for it" in capsys.readouterr().err
