"""Predictions and ground truth as files."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.base.records import BoxLabel, ImageRecord
from pipelines.evaluation.predictions import ImagePredictions
from pipelines.evaluation.writers import write_ground_truth, write_predictions
from pipelines.tasks.embedding.tensors.embeddings import Embeddings
from pipelines.tasks.kinds import KINDS

TASKS = ("cells", "kind", "lookup", "marks", "scene")


def test_pycocotools_gets_the_numbers_of_the_result_from_the_written_files(
    records, predictions, tasks, tmp_path, capsys, model, categories, evaluate
):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    task = model.tasks["cells"]
    truth_path = write_ground_truth(tmp_path / "ground_truth", "cells", task, categories["cells"], records)
    found_path = write_predictions(tmp_path / "predictions", "cells", task, categories["cells"], records, predictions)
    assert truth_path == tmp_path / "ground_truth" / "cells.coco.json"
    truth = COCO(str(truth_path))
    evaluation = COCOeval(truth, truth.loadRes(str(found_path)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    capsys.readouterr()
    for name, oracle in zip(KINDS["detection"].metrics, evaluation.stats, strict=True):
        ours = tasks["cells"]["coco"][name]
        assert (ours is None) == (oracle < 0)
        assert ours is None or ours == pytest.approx(oracle, abs=1e-12)


def test_ground_truth_is_a_coco_file_with_sources_crowd_and_given_areas(records, tmp_path, model, categories):
    path = write_ground_truth(tmp_path, "cells", model.tasks["cells"], categories["cells"], records)
    truth = json.loads(path.read_text())
    assert truth["images"][1] == {
        "id": 1001,
        "file_name": "folder/001 é.jpg",
        "source": "plates",
        "width": 320,
        "height": 200,
    }
    assert len(truth["images"]) == len(records)
    first, second = truth["annotations"][:2]
    assert first["area"] == pytest.approx(first["bbox"][2] * first["bbox"][3])
    assert (second["id"], second["image_id"], second["area"]) == (102, 1001, 321.5)
    assert [a["iscrowd"] for a in truth["annotations"][:5]] == [0, 0, 0, 0, 1]
    assert truth["categories"][1] == {"id": 3, "name": "white"}


def test_ground_truth_with_a_repeated_annotation_id_is_rejected(records, tmp_path, model, categories):
    twice = [*records[:2], ImageRecord(5, "other", "test", "x.jpg", Path("x.jpg"), labels=dict(records[1].labels))]
    with pytest.raises(ValueError, match="annotation ids are not unique"):
        write_ground_truth(tmp_path, "cells", model.tasks["cells"], categories["cells"], twice)


def test_class_scores_are_a_table_with_labels(records, predictions, tmp_path, model, categories):
    path = write_predictions(tmp_path, "marks", model.tasks["marks"], categories["marks"], records, predictions)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image_id"] for row in rows] == [str(r.image_id) for r in records if "marks" in r.labels]
    assert list(rows[0]) == [
        *("image_id", "file_name", "source", "is_labeled", "is_labelled", "labels"),
        *("score:scratch", "score:stain"),
    ]
    by_id = {row["image_id"]: row for row in rows}
    assert by_id["1002"]["labels"] == "scratch|stain"
    assert (by_id["1007"]["labels"], by_id["1007"]["is_labeled"]) == ("", "true")
    assert np.float32(by_id["1002"]["score:stain"]) == predictions[2].tasks["marks"].scores[1]


def test_all_images_are_written_if_labels_are_not_needed(records, predictions, tmp_path, model, categories):
    arguments = ("kind", model.tasks["kind"], categories["kind"], records, predictions)
    path = write_predictions(tmp_path, *arguments, labeled_only=False)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(records)
    assert (rows[0]["labels"], rows[0]["is_labeled"]) == ("", "false")


def test_embeddings_of_objects_are_arrays_that_need_no_pickle(records, predictions, tmp_path, model, categories):
    path = write_predictions(tmp_path, "lookup", model.tasks["lookup"], categories["lookup"], records, predictions)
    arrays = dict(np.load(path, allow_pickle=False))
    assert set(arrays) == {"embedding", "image_id", "source", "file_name", "annotation_id", "identity", "bbox_xywh"}
    labels = [b for r in records for b in r.labels.get("lookup", []) if isinstance(b, BoxLabel)]
    assert arrays["embedding"].shape == (len(labels), 2)
    assert arrays["annotation_id"].tolist() == [label.annotation_id for label in labels]
    np.testing.assert_allclose(arrays["bbox_xywh"], [label.bbox_xywh for label in labels], atol=1e-4)
    assert arrays["identity"].tolist() == ["" if b.is_crowd else b.identity or "" for b in labels]


def test_embeddings_of_images_have_the_whole_image_as_box(records, predictions, tmp_path, model, categories):
    path = write_predictions(tmp_path, "scene", model.tasks["scene"], categories["scene"], records, predictions)
    arrays = dict(np.load(path))
    assert arrays["bbox_xywh"].tolist() == [[0, 0, 320, 200]] * 8
    assert arrays["annotation_id"].tolist() == [-1] * 8
    assert arrays["source"].tolist() == [record.source for record in records if "scene" in record.labels]
    assert arrays["identity"][:2].tolist() == ["north", "south"]


def test_embeddings_of_a_detectors_boxes_have_no_identity(records, tmp_path, model, categories):
    found = Embeddings(np.ones((2, 2), dtype=np.float32), np.array([[0, 0, 5, 5], [1, 2, 4, 8]], dtype=np.float32))
    predictions = [ImagePredictions(1001, {"lookup": found})]
    arguments = ("lookup", model.tasks["lookup"], categories["lookup"], records, predictions)
    arrays = dict(np.load(write_predictions(tmp_path, *arguments)))
    assert arrays["identity"].tolist() == ["", ""]
    assert arrays["bbox_xywh"].tolist() == [[0, 0, 5, 5], [1, 2, 3, 6]]


@pytest.mark.parametrize("name", TASKS)
def test_file_without_predictions_is_valid(name, records, tmp_path, model, categories):
    path = write_predictions(tmp_path, name, model.tasks[name], categories[name], records, [])
    if path.suffix == ".npz":
        assert np.load(path)["embedding"].shape == (0, 2)
    else:
        assert path.read_text().splitlines()[0] in ("[]", path.read_text().strip())
