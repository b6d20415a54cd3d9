"""Batch predictions: every image is answered exactly once, in files of each kind of task."""

import csv
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.base.errors import ConfigError, DataError
from pipelines.base.records import Category
from pipelines.batch_prediction_cli import main
from pipelines.inference.export import export_model
from pipelines.inference.predictor import Answer, Predictor
from pipelines.model import MultiTaskModel
from pipelines.run.batch_prediction import predict_batch
from pipelines.run_folder.attempt_files import AttemptFailure
from pipelines.run_folder.events import read_events
from pipelines.run_folder.layout import ATTEMPT_DIR_VARIABLE, RunDir
from pipelines.spec.batch_prediction import BatchPredictionResult, validate_batch_prediction
from pipelines.spec.job import JobSpec
from pipelines.tasks.kinds import kind_of
from pipelines.tasks.thresholds import ClassUnknown

NAMES = ["a.png", "b/c.png", "b/d.png", "e.png", "f.png"]
BEST = {task: {f"{task} 0": 0.4, f"{task} 1": None, f"{task} 2": 0.6} for task in ("cells", "signs")}


@pytest.fixture(scope="module")
def model(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_model: MultiTaskModel,
    tiny_job: JobSpec,
    tiny_categories: Mapping[str, Sequence[Category]],
) -> Path:
    folder = tmp_path_factory.mktemp("model")
    export_model(tiny_model, tiny_job, tiny_categories, folder, BEST)
    return folder


@pytest.fixture(scope="module")
def answers(model: Path, tiny_images: list[Image.Image]) -> dict[str, Answer]:
    """The answer of the predict endpoint for each image."""
    found = Predictor.from_exported(model, device="cpu").predict(tiny_images)
    return dict(zip(NAMES, json.loads(json.dumps(found)), strict=True))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, tiny_images: list[Image.Image]) -> Path:
    """A data root with the folder `images`: five images, a damaged one, and a file that is no image."""
    folder = tmp_path_factory.mktemp("root") / "images"
    (folder / "b").mkdir(parents=True)
    for name, image in zip(NAMES, tiny_images, strict=True):
        image.save(folder / name)
    (folder / "b/broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture
def predict(tmp_path: Path, model: Path, images: Path) -> Callable[..., RunDir]:
    """Predict the images in a new run folder, to which the model was downloaded."""

    def predict(run_dir: RunDir | None = None, **settings: Any) -> RunDir:
        run_dir = run_dir or RunDir.of(tmp_path / "run")
        if not run_dir.init_from.exists():
            shutil.copytree(model, run_dir.init_from)
        document = {"model": "tiny", "version": 3, "folder": "images", **settings}
        predict_batch(validate_batch_prediction(document), images, run_dir)
        return run_dir

    return predict


def result(run_dir: RunDir) -> BatchPredictionResult:
    return BatchPredictionResult.model_validate_json(run_dir.result.read_bytes())


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def outputs(run_dir: RunDir) -> dict[str, bytes]:
    files = [run_dir.answers, run_dir.images_csv, run_dir.result, *run_dir.predictions.iterdir()]
    return {str(path.relative_to(run_dir.path)): path.read_bytes() for path in files}


def test_every_image_is_listed_with_its_size_or_the_reason_why_it_has_no_prediction(
    predict: Callable[..., RunDir], answers: dict[str, Answer]
) -> None:
    run_dir = predict()
    rows = {row["file_name"]: row for row in table(run_dir.images_csv)}
    assert list(rows) == ["a.png", "b/broken.jpg", "b/c.png", "b/d.png", "e.png", "f.png"]
    broken = rows.pop("b/broken.jpg")
    assert (broken["is_predicted"], broken["width"]) == ("false", "")
    assert "header is broken" in broken["error"]
    for name, row in rows.items():
        assert {"width": int(row["width"]), "height": int(row["height"])} == answers[name]["image"]
        assert (row["is_predicted"], row["error"]) == ("true", "")
    written = result(run_dir)
    assert written.images.model_dump() == {"total": 6, "predicted": 5, "failed": 1, "damaged": 0}
    assert [(failed.file, failed.reason) for failed in written.failed] == [("b/broken.jpg", broken["error"])]
    assert not run_dir.init_from.exists(), "the copy of the model is removed"


def test_files_of_every_kind_hold_the_answers_of_the_predict_endpoint(
    predict: Callable[..., RunDir], answers: dict[str, Answer], tiny_job: JobSpec
) -> None:
    run_dir = predict()
    folder = run_dir.predictions
    expected = {
        f"{task}{file.format.suffix}"
        for task, spec in tiny_job.model.tasks.items()
        for file in kind_of(spec).answer_files
    }
    assert {path.name for path in folder.iterdir()} == expected
    assert {name for task in result(run_dir).tasks.values() for name in task.files} == {
        f"predictions/{name}" for name in expected
    }
    ids = {row["file_name"]: int(row["image_id"]) for row in table(run_dir.images_csv)}
    detections = [(name, found) for name in NAMES for found in answers[name]["tasks"]["cells"]["detections"]]
    coco = json.loads((folder / "cells.coco.json").read_text())
    assert [(row["file_name"], row["image_id"], row["category_id"]) for row in coco] == [
        (name, ids[name], found["category_id"]) for name, found in detections
    ]
    np.testing.assert_allclose([row["bbox"] for row in coco], [row["bbox_xywh"] for _, row in detections], rtol=1e-4)
    assert [row["label"] for row in table(folder / "cells.csv")] == [found["label"] for _, found in detections]
    for task in ("kind", "signs"):
        rows = {row["file_name"]: row for row in table(folder / f"{task}.csv")}
        assert list(rows) == [name for name in ids if name in answers]
        for name, row in rows.items():
            labels = answers[name]["tasks"][task]["labels"]
            assert row["label"] == labels[0]["label"]
            for found in labels:
                assert float(row[f"score:{found['label']}"]) == pytest.approx(found["score"], rel=1e-4)
    scene = np.load(folder / "scene.npz")
    np.testing.assert_allclose(
        scene["embedding"], [answers[name]["tasks"]["scene"]["embedding"] for name in NAMES], rtol=1e-3
    )
    assert scene["file_name"].tolist() == NAMES
    lookup = np.load(folder / "lookup.npz")
    assert lookup["bbox_xywh"].tolist() == [row["bbox"] for row in coco], "the objects of the detector"


@pytest.mark.parametrize("kept", [0.0, 0.35])
def test_attempt_continues_after_the_images_of_a_killed_one(
    predict: Callable[..., RunDir], tmp_path: Path, kept: float
) -> None:
    """The journal of the killed attempt ends in the middle of a line."""
    undisturbed = outputs(predict(batch_size=2))
    journal = undisturbed["answers.jsonl"]
    resumed = RunDir.of(tmp_path / "resumed")
    resumed.path.mkdir()
    shutil.copy(tmp_path / "run/image_list.json", resumed.image_list)
    resumed.answers.write_bytes(journal[: int(kept * len(journal)) + 1])
    finished = resumed.answers.read_bytes().count(b"\n")
    assert outputs(predict(resumed, batch_size=2)) == undisturbed
    events = read_events(resumed.events)
    assert [event.data["done"] for event in events if event.kind == "progress"][-1] == 6
    (message,) = [event.data["message"] for event in events if event.data.get("stage") == "predicting"]
    assert message == (f"6 images, of which {finished} have been predicted before" if finished else "6 images")


def test_images_that_are_added_later_belong_to_the_next_job(
    predict: Callable[..., RunDir], tmp_path: Path, images: Path
) -> None:
    run_dir = predict()
    run_dir.result.unlink()
    Image.new("RGB", (8, 8)).save(images / "later.png")
    try:
        assert result(predict(run_dir)).images.total == 6
    finally:
        (images / "later.png").unlink()


def test_damaged_image_ends_the_job_if_the_document_asks_for_it(predict: Callable[..., RunDir]) -> None:
    with pytest.raises(DataError, match=r"b/broken\.jpg: .*on_error: fail"):
        predict(on_error="fail")


def test_link_out_of_the_folder_has_no_prediction(predict: Callable[..., RunDir], images: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (images / "link.png").symlink_to(tmp_path / "secret.png")
    try:
        assert [failed.file for failed in result(predict()).failed] == ["b/broken.jpg", "link.png"]
    finally:
        (images / "link.png").unlink()


def test_classes_and_threshold_select_rows(predict: Callable[..., RunDir]) -> None:
    run_dir = predict(classes=["cells 1", "signs 2"], threshold=0.3)
    coco = json.loads((run_dir.predictions / "cells.coco.json").read_text())
    assert {row["category_id"] for row in coco} <= {15}
    assert all(row["score"] > 0.3 for row in coco)
    assert (
        result(run_dir).tasks["cells"].num_rows
        == len(coco)
        == len(np.load(run_dir.predictions / "lookup.npz")["score"])
    )
    for row in table(run_dir.predictions / "signs.csv"):
        assert row["label"] in ("signs 2", "")
        assert row["score:signs 0"] == ""
    assert all(row["score:kind 0"] == "" for row in table(run_dir.predictions / "kind.csv")), "no class is one of kind"


def test_attempt_checks_the_classes_and_names_a_similar_one(predict: Callable[..., RunDir]) -> None:
    with pytest.raises(ClassUnknown, match="got 'cels 1', which is not a class of the model; did you mean 'cells 1'"):
        predict(classes=["cels 1"])


def test_folder_without_images_is_an_error(predict: Callable[..., RunDir], tmp_path: Path, model: Path) -> None:
    (tmp_path / "empty").mkdir()
    run_dir = RunDir.of(tmp_path / "run")
    shutil.copytree(model, run_dir.init_from)
    with pytest.raises(DataError, match="contains no images"):
        predict_batch(validate_batch_prediction({"model": "t", "folder": "x"}), tmp_path / "empty", run_dir)


def test_command_writes_why_it_failed_and_does_nothing_once_it_is_complete(
    predict: Callable[..., RunDir], tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYRAMIDION_DATA_ROOTS", str(images.parent))
    monkeypatch.setenv(ATTEMPT_DIR_VARIABLE, str(tmp_path / "run/attempts/1"))
    run_dir = RunDir.of(tmp_path / "run")
    document = tmp_path / "job.yaml"
    document.write_text("{model: tiny, version: 3, folder: nowhere}")
    command = ["--config", str(document), "--run-dir", str(run_dir.path)]
    assert main(command) == ConfigError.exit_code
    failure = AttemptFailure.read(tmp_path / "run/attempts/1/failure.json")
    assert failure.kind == "config_invalid"
    assert failure.message.startswith("folder: no folder 'nowhere' below")
    predict()
    assert main(command) == 0
