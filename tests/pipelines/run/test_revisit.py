"""validate, test and predict go back to a run, and change nothing of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.run_folder.layout import RunDir

Command = Callable[..., int]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def test_validate_and_test_give_the_runs_numbers_and_change_nothing_of_it(
    command: Command, finished: RunDir, demo_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = finished.result.read_bytes()
    moved = tmp_path / "moved"
    moved.symlink_to(demo_root)
    assert command("test", "--run_dir", finished.path, "--data.root", moved) == 0
    assert command("validate", "--run_dir", finished.path) == 0
    capsys.readouterr()
    (tested,) = (finished.path / "eval").glob("test-*")
    (validated,) = (finished.path / "eval").glob("validate-*")
    result = json.loads(before)
    assert read_json(tested / "result.json")["summary"] == pytest.approx(result["summary"], abs=1e-6, nan_ok=False)
    again = read_json(validated / "result.json")
    assert again["split"] == "val"
    assert again["summary"] == pytest.approx(result["val"]["summary"], abs=1e-6)
    assert (tested / "predictions" / "shapes.coco.json").exists()
    assert finished.result.read_bytes() == before


def test_predict_answers_as_the_endpoint_does_and_prints_where(
    command: Command, finished: RunDir, demo_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("predict", "--run_dir", finished.path, "--images", demo_root / "images" / "test", "--draw") == 0
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert printed[0].name == "predictions.json"
    assert len(printed) == 7
    assert all(path.stat().st_size and path.suffix == ".png" for path in printed[1:])
    rows = read_json(printed[0])
    assert [Path(row["file"]).parent.name for row in rows] == 6 * ["test"]
    for row in rows:
        assert row.keys() == {"file", "image", "tasks"}
        assert row["image"].keys() == {"width", "height"}
        assert row["tasks"].keys() == {"identity", "scene", "shapes"}
        assert all(
            d.keys() == {"category_id", "label", "score", "bbox_xywh"} for d in row["tasks"]["shapes"]["detections"]
        )
        assert {label["label"] for label in row["tasks"]["scene"]["labels"]} >= {"crowded"}


def test_predict_of_a_split_answers_for_its_images(
    command: Command, finished: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("predict", "--run_dir", finished.path, "--split", "val") == 0
    (written,) = capsys.readouterr().out.splitlines()
    assert len(read_json(Path(written))) == 6
