"""Best thresholds of detection against a second implementation of COCO's matching."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.tasks.detection.scoring.boxes import FoundBoxes
from pipelines.tasks.detection.scoring.coco_scores import score_coco

CELL_PX = 10.0
CORNERS = [(x * CELL_PX, y * CELL_PX) for x in range(2) for y in range(2)]
SHIFTS = (0.0, 2.0, 3.0, 5.0, 9.0)
"""Boxes of 10 px that are shifted by 0, 2 and 3 px overlap those of the grid by an IoU of at least 0.5."""

BOXES = st.tuples(st.integers(0, 1), st.integers(0, 1), st.sampled_from(CORNERS), st.sampled_from(SHIFTS))
TRUTHS = st.lists(st.tuples(BOXES, st.booleans()), max_size=6)
FOUND = st.lists(st.tuples(BOXES, st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9])), max_size=8)


def row_of(box: tuple[int, int, tuple[float, float], float]) -> dict[str, Any]:
    image, category, (x, y), shift = box
    return {"image_id": image, "category_id": category, "bbox": [x + shift, y, CELL_PX, CELL_PX]}


def iou(one: list[float], other: list[float], *, is_crowd: bool) -> float:
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    overlap = max(0.0, width) * max(0.0, height)
    area = one[2] * one[3]
    return overlap / (area if is_crowd else area + other[2] * other[3] - overlap)


def counted(truths: list[dict[str, Any]], found: list[dict[str, Any]]) -> list[tuple[float, bool]]:
    """Match the detections of one class by hand: (score, is right), without those that match a crowd."""
    outcome = []
    for image in (0, 1):
        free = [box for box in truths if box["image_id"] == image and not box["iscrowd"]]
        crowds = [box for box in truths if box["image_id"] == image and box["iscrowd"]]
        for row in sorted((row for row in found if row["image_id"] == image), key=lambda row: -row["score"]):
            overlaps = [iou(row["bbox"], box["bbox"], is_crowd=False) for box in free]
            if overlaps and max(overlaps) >= 0.5:
                # Of equal overlaps, COCO takes the last one.
                free.pop(max(range(len(free)), key=lambda k: (overlaps[k], k)))
                outcome.append((row["score"], True))
            elif not any(iou(row["bbox"], box["bbox"], is_crowd=True) >= 0.5 for box in crowds):
                outcome.append((row["score"], False))
    return outcome


@given(TRUTHS, FOUND)
@settings(max_examples=150, deadline=None)
def test_no_threshold_has_a_higher_f1(truths: list[Any], found: list[Any]) -> None:
    annotations = [
        row_of(box) | {"id": number, "iscrowd": int(is_crowd)} for number, (box, is_crowd) in enumerate(truths, start=1)
    ]
    results = [row_of(box) | {"score": score} for box, score in found]
    categories = [{"id": number, "name": f"class {number}"} for number in (0, 1)]
    ground_truth = {"images": [{"id": 0}, {"id": 1}], "annotations": annotations, "categories": categories}
    for row in score_coco(ground_truth, FoundBoxes.from_rows(results))["per_class"]:
        own = [box for box in annotations if box["category_id"] == row["category_id"]]
        num_true = sum(not box["iscrowd"] for box in own)
        rights = counted(own, [result for result in results if result["category_id"] == row["category_id"]])

        def f1(threshold: float, rights: list[tuple[float, bool]] = rights, num_true: int = num_true) -> float:
            accepted = [is_right for score, is_right in rights if score > threshold]
            return 2 * sum(accepted) / max(1, num_true + len(accepted))

        best = max(f1(threshold) for threshold in (0.0, 0.2, 0.4, 0.6, 0.8))
        if best == 0:
            assert (row["best_threshold"], row["f1_at_best"]) == (None, None)
        else:
            assert row["f1_at_best"] == pytest.approx(best)
            assert f1(row["best_threshold"]) == pytest.approx(best)


def test_given_thresholds_are_those_of_another_split() -> None:
    box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10]}
    ground_truth = {
        "images": [{"id": 1}], "annotations": [box | {"id": 1}],
        "categories": [{"id": 1, "name": "cell"}, {"id": 2, "name": "other"}],
    }  # fmt: skip
    results = [box | {"score": 0.4}, box | {"score": 0.3}]
    found = FoundBoxes.from_rows(results)
    assert score_coco(ground_truth, found)["per_class"][0]["best_threshold"] == pytest.approx(0.35)
    cell, other = score_coco(ground_truth, found, {"cell": 0.1, "other": 0.7})["per_class"]
    assert (cell["best_threshold"], cell["precision_at_best"], cell["recall_at_best"]) == (0.1, 0.5, 1)
    assert (other["best_threshold"], other["f1_at_best"], other["recall_at_best"]) == (0.7, None, None)


def test_class_may_have_more_than_100_detections_in_an_image() -> None:
    boxes = [{"image_id": 1, "category_id": 1, "bbox": [20.0 * n, 0, 10, 10]} for n in range(150)]
    ground_truth = {
        "images": [{"id": 1}], "annotations": [box | {"id": n} for n, box in enumerate(boxes, start=1)],
        "categories": [{"id": 1, "name": "cell"}],
    }  # fmt: skip
    scores = np.linspace(0.9, 0.2, 150).tolist()
    found = FoundBoxes.from_rows([box | {"score": s} for box, s in zip(boxes, scores, strict=True)])
    (row,) = score_coco(ground_truth, found)["per_class"]
    assert (row["f1_at_best"], row["best_threshold"]) == (1, pytest.approx(0.1))
