"""The commands validate, test and predict use a run without changing it."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pipelines.run.saved_run import load_document, load_run
from pipelines.run_folder.layout import RunDir
from pipelines.spec.load import apply_override, write_yaml

Command = Callable[..., int]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def test_validate_and_test_reproduce_the_scores_of_the_run(
    command: Command, finished: RunDir, demo_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, earlier = finished.result.read_bytes(), set((finished.path / "eval").glob("*"))
    moved = tmp_path / "moved"
    moved.symlink_to(demo_root)
    assert command("test", "--run-dir", finished.path, "--data.root", moved) == 0
    assert command("validate", "--run-dir", finished.path) == 0
    capsys.readouterr()
    tested, validated = sorted(set((finished.path / "eval").glob("*")) - earlier)
    result = json.loads(before)
    assert read_json(tested / "result.json")["summary"] == pytest.approx(result["summary"], abs=1e-6, nan_ok=False)
    again = read_json(validated / "result.json")
    assert again["split"] == "val"
    assert again["summary"] == pytest.approx(result["val"]["summary"], abs=1e-6)
    assert (tested / "predictions" / "shapes.coco.json").exists()
    assert finished.result.read_bytes() == before


def test_last_and_averaged_weights_are_read_from_the_last_checkpoint(
    command: Command, finished: RunDir, demo_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = torch.load(finished.last_checkpoint, weights_only=True)
    own = {"precision": read_json(finished.result)["model"]["precision"]}
    for weights, key in (("last", "current_model_state"), ("averaged", "state_dict")):
        state = load_run(*load_document(finished.path), weights).state
        assert state
        assert all(torch.equal(tensor, last[key][f"model.{name}"]) for name, tensor in state.items())
        before = set((finished.path / "eval").glob("*"))
        assert command("validate", "--run-dir", finished.path, "--weights", weights) == 0
        (written,) = set((finished.path / "eval").glob("validate-*")) - before
        result = read_json(written / "result.json")
        assert result["model"] == own | {"weights": weights, "epoch": 1, "step": 6}
        assert result["val"]["summary"] == result["summary"]
        assert result["select"]["value"] == result["summary"]["val/scene/mAP"]
    assert (
        command("predict", "--run-dir", finished.path, "--images", demo_root / "images/test", "--weights", "last") == 0
    )
    assert "weights: last, of epoch 2, step 6" in capsys.readouterr().err


def test_best_weights_are_named_in_the_result(command: Command, finished: RunDir) -> None:
    before = set((finished.path / "eval").glob("*"))
    assert command("test", "--run-dir", finished.path) == 0
    (written,) = set((finished.path / "eval").glob("test-*")) - before
    model, own = read_json(written / "result.json")["model"], read_json(finished.result)["model"]
    assert model == {"weights": "best", **{name: own[name] for name in ("best_epoch", "best_step", "precision")}}


def test_missing_weights_are_reported_with_a_remedy(
    command: Command, small: dict[str, Any], train: Callable[..., RunDir], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    document = apply_override(apply_override(small, "model.ema", None), "trainer.max_epochs", 1)
    run_dir = train(document, tmp_path)
    run_dir.config_yaml.write_text(write_yaml(document))
    assert command("predict", "--run-dir", tmp_path, "--split", "val", "--weights", "averaged") == 78
    assert "--weights: got averaged; " in (output := capsys.readouterr().err)
    assert "write best or last; a run whose document has model.ema" in output
    raw = torch.load(run_dir.last_checkpoint, weights_only=True)["state_dict"]
    state = load_run(*load_document(tmp_path), "last").state
    assert all(torch.equal(tensor, raw[f"model.{name}"]) for name, tensor in state.items())
    run_dir.last_checkpoint.unlink()
    assert command("validate", "--run-dir", tmp_path, "--weights", "last") == 78
    assert "has no last.ckpt, write best" in capsys.readouterr().err


def test_split_without_images_is_named_with_those_that_have_some(
    command: Command, finished: RunDir, demo_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(demo_root, tmp_path / "data")
    path = tmp_path / "data/annotations/instances_test.json"
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    table = tmp_path / "data/annotations/image_labels.csv"
    table.write_text("".join(line for line in table.read_text().splitlines(True) if ",test," not in line))
    assert command("test", "--run-dir", finished.path, "--data.root", tmp_path / "data") == 78
    message = "error: data.sources: the data has no images of the split test; it has train, val\n"
    assert message in capsys.readouterr().err


def test_predict_prints_and_writes_the_answers_of_the_endpoint(
    command: Command, finished: RunDir, demo_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("predict", "--run-dir", finished.path, demo_root / "images" / "test", "--draw") == 0
    captured = capsys.readouterr()
    paths = [Path(line) for line in captured.err.splitlines() if line.endswith((".json", ".png"))]
    assert paths[0].name == "predictions.json"
    assert len(paths) == 7
    assert all(path.stat().st_size and path.suffix == ".png" for path in paths[1:])
    rows = read_json(paths[0])
    assert rows == json.loads(captured.out)
    assert [Path(row["file"]).parent.name for row in rows] == 6 * ["test"]
    for row in rows:
        assert row.keys() == {"file", "image", "tasks"}
        assert row["image"].keys() == {"width", "height"}
        assert row["tasks"].keys() == {"identity", "scene", "shapes"}
        assert all(
            d.keys() == {"category_id", "label", "score", "bbox_xywh"} for d in row["tasks"]["shapes"]["detections"]
        )
        assert {label["label"] for label in row["tasks"]["scene"]["labels"]} >= {"crowded"}


def test_predict_whose_reader_has_ended_writes_the_answers_and_ends_silently(
    command: Command,
    finished: RunDir,
    demo_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed_pipe:
        monkeypatch.setattr(sys, "stdout", closed_pipe)
        assert command("predict", "--run-dir", finished.path, demo_root / "images" / "test") == 141
    assert "error" not in capsys.readouterr().err.lower()
    written = max(finished.path.glob("eval/predict-*/predictions.json"))
    assert len(read_json(written)) == 6


@pytest.mark.parametrize("draw", [None, "", "pictures"])
def test_predict_with_a_run_folder_that_cannot_be_written_prints_the_answers(
    draw: str | None,
    command: Command,
    finished: RunDir,
    demo_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(finished.path, tmp_path / "run", ignore=shutil.ignore_patterns("eval", "plots"))
    (tmp_path / "run/eval").touch()
    words = [] if draw is None else ["--draw", *([str(tmp_path / draw)] if draw else [])]
    images = demo_root / "images" / "test"
    assert command("predict", "--run-dir", tmp_path / "run", "--images", images, *words) == (78 if draw == "" else 0)
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)) == 6
    assert "cannot be written (Not a directory); the predictions are only printed" in captured.err
    assert ("error: --draw: the run folder cannot be written; write --draw DIR" in captured.err) == (draw == "")
    assert len(list(tmp_path.glob("pictures/*.png"))) == (6 if draw else 0)


def test_predict_of_a_split_covers_its_images(
    command: Command, finished: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("predict", "--run-dir", finished.path, "--split", "val") == 0
    assert len(json.loads(capsys.readouterr().out)) == 6


def test_odd_and_broken_files_of_a_folder_do_not_affect_the_others(
    command: Command, finished: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, pictures = tmp_path / "photos", tmp_path / "pictures"
    for folder in ("thumbs.png", ".thumbnails", "__MACOSX"):
        (photos / folder).mkdir(parents=True)
    undecodable = photos / os.fsdecode(b"caf\xe9.png")
    good = [photos / "a.png", photos / f"{'x' * 249}.png", photos / "thumbs.png" / "c.png", undecodable]
    for file in good:
        Image.effect_noise((60, 40), 50).save(tmp_path / "noise.png")
        file.write_bytes((tmp_path / "noise.png").read_bytes())
    for skipped in ("._a.png", ".thumbnails/b.png", "__MACOSX/._a.png"):
        (photos / skipped).write_bytes(b"\0\5\26\7")
    (photos / "link.png").symlink_to("gone.png")
    (photos / "cut.png").write_bytes(good[0].read_bytes()[:-500])
    assert command("predict", "--run-dir", finished.path, photos, tmp_path / "absent.png", "--draw", pictures) == 78
    captured = capsys.readouterr()
    rows = json.loads(captured.out)
    assert {row["file"] for row in rows} == {*map(str, good[:3]), f"{photos}/caf\\xe9.png"}
    assert len(list(pictures.iterdir())) == 4
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert errors == [
        f"error: {photos}/cut.png: cannot be decoded (image file is truncated); write the file again",
        f"error: {photos}/link.png: the file is missing",
        f"error: {tmp_path}/absent.png: the file is missing",
    ]


def test_images_can_stand_at_any_place_and_have_their_old_option(
    command: Command, finished: RunDir, demo_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = sorted((demo_root / "images" / "test").iterdir())[:2]
    for words in ((first, "--run-dir", finished.path, second), ("--run-dir", finished.path, "--images", first, second)):
        assert command("predict", *words) == 0
        assert [row["file"] for row in json.loads(capsys.readouterr().out)] == [str(first), str(second)]
    assert command("predict", "--run-dir", finished.path, "--draw", first) == 78
    assert "pass either image files" in capsys.readouterr().err
    assert command("predict", "--run-dir", finished.path, second, "--draw", first) == 78
    assert f"--draw: got the file {str(first)!r}; write --draw=DIR" in capsys.readouterr().err
