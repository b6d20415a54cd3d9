"""Boxes of an evaluated split, marked as right or as errors, against the confusion matrix of the result."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.tasks.detection.scoring.boxes import FoundBoxes
from pipelines.tasks.detection.scoring.coco_scores import score_coco
from pipelines.tasks.detection.scoring.evaluated_images import EvaluatedDetections
from pipelines.tasks.detection.scoring.result_rows import iter_rows, read_found
from pipelines.tasks.kinds import KINDS
from pipelines.tasks.worst_images import WorstImage, WorstImages
from tests.pipelines.tasks.detection.hard_boxes import nasty_fixture

LEFT, RIGHT, FAR = [0.0, 0.0, 20.0, 20.0], [40.0, 0.0, 20.0, 20.0], [0.0, 60.0, 20.0, 20.0]


def matrix_of(marks, num_classes):
    counts = np.zeros((num_classes + 1, num_classes + 1), dtype=int)
    np.add.at(counts, (marks.truths, marks.predicted), 1)  # -1, no class, is the last row and column
    return counts.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_marks_add_up_to_the_confusion_matrix(seed):
    truth, results = nasty_fixture(seed)
    rng = np.random.default_rng(seed)
    for row in results:  # no ties of scores
        row["score"] = float(rng.random())
    found = FoundBoxes.from_rows(results)
    scores = score_coco(truth, found)
    best = {row["label"]: row["best_threshold"] for row in scores["per_class"]}
    for thresholds in (best, dict.fromkeys(best, 0.0)):
        confusion = score_coco(truth, found, thresholds)["confusion"]["counts"]
        marked = EvaluatedDetections(truth, found, thresholds).marked(None)
        assert matrix_of(marked.marks, len(truth["categories"])) == confusion
    assert sum(map(sum, confusion)) > 300


@pytest.fixture
def images(tmp_path: Path):
    truth = {
        "images": [{"id": n, "file_name": f"{n}.png", "source": "s", "width": 90, "height": 80} for n in (3, 1, 2)],
        "categories": [{"id": 5, "name": "cell"}, {"id": 2, "name": "dust"}],
        "annotations": [
            {"id": 10, "image_id": 1, "category_id": 5, "bbox": LEFT},
            {"id": 11, "image_id": 1, "category_id": 2, "bbox": RIGHT},
            {"id": 12, "image_id": 2, "category_id": 5, "bbox": LEFT},
            {"id": 13, "image_id": 3, "category_id": 2, "bbox": FAR, "iscrowd": 1},
        ],
    }
    results = [
        {"image_id": 1, "category_id": 5, "bbox": LEFT, "score": 0.6},
        {"image_id": 1, "category_id": 5, "bbox": RIGHT, "score": 0.9},
        {"image_id": 3, "category_id": 2, "bbox": FAR, "score": 0.7},
        {"image_id": 3, "category_id": 5, "bbox": LEFT, "score": 0.3},
    ]
    one = WorstImage(image_id=3, file_name="3.png", cost=0.25, missed=[], false_positives=[])
    worst = WorstImages(
        kind="detection", iou=0.5, thresholds={}, num_images=3, num_images_with_errors=2, images=[one],
        num_suspicions=0, suspicions=[],
    )  # fmt: skip
    for name, text in (("truth", json.dumps(truth)), ("found", json.dumps(results)), ("w", worst.model_dump_json())):
        (tmp_path / f"{name}.json").write_text(text, "utf-8")
    result = {"per_class": [{"label": "cell", "best_threshold": 0.5}, {"label": "dust", "best_threshold": None}]}
    files = (tmp_path / "found.json", tmp_path / "truth.json", tmp_path / "w.json")
    return KINDS["detection"].evaluated_images(result, *files)


def test_boxes_are_marked_with_their_counterparts(images):
    marked = images.marked(None)
    assert marked.thresholds == {"cell": 0.5, "dust": 0.5}
    first, second, third = map(marked.image, range(3))
    assert (first.file_name, first.width, first.height, first.num_errors, first.cost) == ("1.png", 90, 80, 1, None)
    assert [(box.annotation_id, box.label, box.outcome, box.predicted) for box in first.truth] == [
        (10, "cell", "right", "cell"),
        (11, "dust", "confused", "cell"),
    ]
    assert [(box.score, box.outcome, box.truth) for box in first.predictions] == [
        (0.9, "confused", "dust"),
        (0.6, "right", "cell"),
    ]
    assert first.predictions[0].bbox_xywh == tuple(RIGHT)
    assert [(box.outcome, box.predicted) for box in second.truth] == [("missed", None)]
    # A crowd, and the detection of it, are neither right nor wrong.
    assert [box.outcome for box in (*third.truth, *third.predictions)] == ["ignored", "ignored"]
    assert (third.num_errors, third.cost) == (0, 0.25)


def test_images_are_found_by_their_errors_and_ordered(images):
    marked = images.marked(0.2)
    names = [name.file_name for name in marked.names]
    assert names == ["1.png", "2.png", "3.png"]
    # The image with a known cost comes first, others by their errors.
    assert marked.find() == [2, 0, 1]
    assert marked.find(order="file") == [0, 1, 2]
    assert marked.find("confused") == [0]
    assert marked.find("missed", label="cell") == [1]
    assert marked.find("false_positive", predicted="cell") == [2]
    assert marked.find(label="dust", predicted="cell") == marked.find(label="cell", predicted="cell") == [0]
    assert marked.find("missed", label="dust") == []
    with pytest.raises(ValueError, match="no class 'cel'; did you mean 'cell'"):
        marked.find(label="cel")
    assert images.marked(None).find("false_positive") == []


def test_list_of_results_is_read_row_by_row(tmp_path):
    path = tmp_path / "found.json"
    rows = [{"image_id": k, "category_id": 1, "bbox": [0, 0, k, 1.5], "score": 0.5} for k in range(3)]
    for text in (json.dumps(rows), json.dumps(rows, indent=1), "[]", " [ ] "):
        path.write_text(text, "utf-8")
        assert list(iter_rows(path)) == json.loads(text)
        assert read_found(path).image_ids.tolist() == [row["image_id"] for row in json.loads(text)]
    for damaged in ("{}", '[{"image_id": 1}', "", "[1 "):
        path.write_text(damaged, "utf-8")
        with pytest.raises(ValueError, match=r"JSON|Expecting|delimiter"):
            list(iter_rows(path))
