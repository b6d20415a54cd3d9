"""The command lines of `export` and `bench-model`: mistakes are explained before anything is computed."""

import json
from pathlib import Path

import pytest

from pipelines.export_cli import main


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--to", "onnx", "--precision", "bf16"], "--precision: got bf16; onnxruntime computes in fp32, int8"),
        (["--to", "onnx", "--accuracy-aware"], "--accuracy-aware: write it with --to openvino --precision int8"),
        (["--to", "onnx", "--calibration-images", "0"], "--calibration-images: got 0; write 1 or more"),
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
