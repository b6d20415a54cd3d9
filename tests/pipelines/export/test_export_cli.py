"""The command lines of `export` and `bench-model`: mistakes are explained before anything is computed."""

import json
from pathlib import Path

import pytest

from pipelines.export_cli import main


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--to", "onnx", "--precision", "bf16"], "--precision: got 'bf16'; exports to onnx are fp32 or int8"),
        (["--to", "onnx", "--accuracy-aware"], "--accuracy-aware: is only possible for the format openvino"),
        (
            ["--to", "onnx", "--calibration-images", "0"],
            "--calibration-images: got 0; should be greater than or equal to 1",
        ),
        (["--to", "onnx", "--max-drop", "-1"], "--max-drop: got -1.0; should be greater than or equal to 0"),
        (["--to", "onnx", "--max-drop", "nan"], "--max-drop: got nan; should be a finite number"),
        (["--to", "onnx", "--model.optimizer.lr", "1"], "--model.optimizer.lr: is not an option of this command"),
        (["--to", "onnx"], "is not a run folder; name one that fit has written"),
    ],
)
def test_mistake_is_explained(words: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--run-dir", str(tmp_path), *words, "--json"]) == 78
    printed = capsys.readouterr()
    assert text in printed.err
    assert json.loads(printed.out)


def test_benchmark_needs_a_positive_number_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench-model", "--run-dir", str(tmp_path), "--batch", "0"]) == 78
    assert "--batch: got 0; write 1 or more" in capsys.readouterr().err


def test_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 2
    assert "usage" in capsys.readouterr().err
