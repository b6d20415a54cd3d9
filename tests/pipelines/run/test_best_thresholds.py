"""Best thresholds of a run: in its result, in its model, and in the predictions of its weights."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.command_line.parsers import parser_of
from pipelines.inference.export import read_best_thresholds
from pipelines.inference.predictor import Predictor
from pipelines.run_folder.layout import RunDir
from pipelines.tasks.thresholds import threshold_option

Command = Callable[..., int]
TASKS = ("shapes", "scene")
PAGE = (Path(__file__).parents[3] / "docs" / "thresholds.md").read_text("utf-8")
NUMBERS = ("best_threshold", "precision_at_best", "recall_at_best", "f1_at_best")


def rows_of(result: dict[str, Any], task: str) -> dict[str, dict[str, Any]]:
    return {row["label"]: row for row in result["tasks"][task]["per_class"]}


@pytest.mark.parametrize(
    "line", [line for line in PAGE.splitlines() if line.startswith("$ pyramidion predict --run-dir")]
)
def test_commands_of_the_page_are_valid(line: str) -> None:
    options, fields = parser_of("predict").parse_command_line(shlex.split(line)[3:])
    assert fields == []
    assert options.image == ["photos"]
    assert threshold_option(options.threshold) in ("best", 0.4)


def predictions(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


def test_model_has_the_thresholds_of_its_weights_on_val(command: Command, finished: RunDir) -> None:
    result = json.loads(finished.result.read_text())
    stored = read_best_thresholds(finished.model)
    assert set(stored) == set(TASKS)
    assert any(value is not None for value in stored["scene"].values())
    before = set((finished.path / "eval").glob("*"))
    assert command("validate", "--run-dir", finished.path) == 0
    (written,) = set((finished.path / "eval").glob("validate-*")) - before
    validated = json.loads((written / "result.json").read_text())
    for task in TASKS:
        tested, on_val, again = (rows_of(part, task) for part in (result, result["val"], validated))
        assert {label: row["best_threshold"] for label, row in on_val.items()} == stored[task]
        assert {label: row["best_threshold"] for label, row in tested.items()} == stored[task]
        for label, row in on_val.items():
            assert [again[label][name] for name in NUMBERS] == pytest.approx([row[name] for name in NUMBERS], abs=1e-6)


def test_test_split_is_scored_at_the_thresholds_of_val(command: Command, finished: RunDir) -> None:
    stored = read_best_thresholds(finished.model)
    before = set((finished.path / "eval").glob("*"))
    assert command("test", "--run-dir", finished.path) == 0
    assert command("test", "--run-dir", finished.path, "--weights", "last") == 0
    folders = sorted(set((finished.path / "eval").glob("test-*")) - before)
    best, last = (json.loads((folder / "result.json").read_text()) for folder in folders)
    for task in TASKS:
        assert {label: row["best_threshold"] for label, row in rows_of(best, task).items()} == stored[task]
        assert {row["best_threshold"] for row in rows_of(last, task).values()} == {None}


def test_predictions_are_those_above_the_thresholds(
    command: Command, finished: RunDir, demo_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = sorted((demo_root / "images" / "test").iterdir())
    predictor = Predictor.from_exported(finished.model, device="cpu")
    words = ("predict", "--run-dir", finished.path, *images, "--threshold")
    for text, threshold in (("best", "best"), ("0.2", 0.2)):
        assert command(*words, text, "--draw", tmp_path / text) == 0
        for row, expected in zip(predictions(capsys), predictor.predict(images, threshold), strict=True):
            for task, field in (("scene", "labels"), ("shapes", "detections")):
                shown = [
                    (one["label"], pytest.approx(one["score"], abs=1e-4)) for one in expected["tasks"][task][field]
                ]
                assert [(one["label"], one["score"]) for one in row["tasks"][task][field]] == shown
        assert len(list((tmp_path / text).iterdir())) == len(images)


def test_predictions_are_those_of_the_requested_classes(
    command: Command, finished: RunDir, demo_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = next((demo_root / "images" / "test").iterdir())
    kept, *others = read_best_thresholds(finished.model)["scene"]
    assert others
    words = ("predict", "--run-dir", finished.path, image, "--class")
    assert command(*words, kept) == 0
    (row,) = predictions(capsys)
    assert [label["label"] for label in row["tasks"]["scene"]["labels"]] == [kept]
    assert row["tasks"]["shapes"]["detections"] == []
    assert command(*words, "unknown") == 78
    assert "got 'unknown', which is not a class of the model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--threshold", "high"], "--threshold: got 'high'; write best, or a number from 0 to 1"),
        (["--threshold=1.5"], "--threshold: got '1.5'; write best, or a number from 0 to 1"),
        (["--threshold", "best", "--weights", "last"], "--threshold: got best with --weights last; only the best"),
    ],
)
def test_unusable_threshold_is_reported_before_anything_is_predicted(
    words: list[str], message: str, command: Command, finished: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set((finished.path / "eval").glob("*"))
    assert command("predict", "--run-dir", finished.path, "--split", "val", *words) == 78
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith(f"error: {message}")
    assert captured.out == ""
    assert set((finished.path / "eval").glob("*")) == before


def test_run_of_an_earlier_version_predicts_without_best_thresholds(
    command: Command, finished: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = RunDir.of(shutil.copytree(finished.path, tmp_path / "run", ignore=shutil.ignore_patterns("eval")))
    content = torch.load(run_dir.best_checkpoint, weights_only=True)
    for task in content["val"]["tasks"].values():
        for row in task["per_class"]:
            for name in NUMBERS:
                row.pop(name, None)
    torch.save(content, run_dir.best_checkpoint)
    words = ("predict", "--run-dir", run_dir.path, "--split", "val")
    assert command(*words, "--threshold", "best") == 78
    assert "got best, but the model has no best thresholds of shapes, scene" in capsys.readouterr().err
    for more in ((), ("--threshold", "0.3")):
        assert command(*words, *more) == 0
    assert command("test", "--run-dir", run_dir.path) == 0
    (written,) = (run_dir.path / "eval").glob("test-*")
    result = json.loads((written / "result.json").read_text())
    own = json.loads(finished.result.read_text())
    assert result["summary"] == pytest.approx(own["summary"], abs=1e-6, nan_ok=False)
    assert {row["best_threshold"] for task in TASKS for row in rows_of(result, task).values()} == {None}
