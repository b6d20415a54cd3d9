"""`export` and `bench-model` work on the folder of a finished run, with all of its tasks."""

import json
import shutil
from pathlib import Path

import pytest

from pipelines.export_cli import main
from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.run_folder.layout import RunDir

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def run(finished: RunDir, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "run"
    shutil.copytree(finished.path, path)
    return path


def test_run_is_exported_evaluated_and_measured(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--run-dir", str(run), "--to", "onnx", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["servable"]
    assert {"val/shapes/AP", "val/scene/mAP", "val/identity/recall_at_1"} <= set(result["metrics"])
    exports = ExportsDir.of(run)
    assert json.loads(exports.report.read_text()) == {"variants": {"onnxruntime-fp32": result}}

    assert main(["bench-model", "--run-dir", str(run), "--batch", "2", "--threads", "1", "--rounds", "2"]) == 0
    assert "onnxruntime-fp32" in capsys.readouterr().out
    rows = json.loads(exports.benchmark.read_text())["rows"]
    assert [(row["name"], row["batch"], row["threads"]) for row in rows] == [
        ("torch-fp32", 2, 1),
        ("onnxruntime-fp32", 2, 1),
    ]


def test_run_without_a_model_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run"
    shutil.copytree(run, path, ignore=shutil.ignore_patterns("model", "exports"))
    assert main(["export", "--run-dir", str(path), "--to", "onnx"]) == 78
    assert "has no model; let `pyramidion fit` finish" in capsys.readouterr().err
