"""Labels that may be wrong or missing: confident detections without a label, and labels that nothing finds.

Legend: N detections, G boxes of the ground truth.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pipelines.tasks.arrays import BoolArray, FloatArray, IntArray
from pipelines.tasks.detection.scoring.boxes import boxes_xywh_of
from pipelines.tasks.detection.scoring.overlaps import MATCH_IOU, box_iou
from pipelines.tasks.detection.scoring.resampling import Rows, ScoredDetections
from pipelines.tasks.worst_images import LabelSuspicion

NEAR_IOU = 0.3
"""A detection that overlaps a label more than this is a badly placed box, and not an object without a label."""

MAX_PAIRS = 2**18
"""Pairs of a detection and a box of an image whose IoU is computed at a time: about 20 MB."""


class Suspicions:
    """Finds suspicious labels of a split.

    A detection is confident if its score is at least the median score of the right detections of its class.

    Args:
        truth: a COCO instances file.
        results: a COCO results list for it.
        scored: both of them.
        is_wrong: (N,) which detections are false positives.
    """

    def __init__(self, truth: Mapping[str, Any], results: Rows, scored: ScoredDetections, is_wrong: BoolArray) -> None:
        self._names = {category["id"]: category["name"] for category in truth["categories"]}
        self._files = dict(scored.images)
        self._is_wrong = is_wrong
        self._found_rows, self._true_rows = results, truth["annotations"]
        self._found, self._true = _by_image(self._found_rows), _by_image(self._true_rows)
        self._confident = self._confident_scores(scored, results)

    def all(self) -> list[LabelSuspicion]:
        """Return all suspicions: first those about detections, highest score first, then labels, largest first."""
        found = [suspicion for image_id in self._files for suspicion in self._of_image(image_id)]
        return sorted(found, key=lambda one: (-(one.score or 0.0), -one.bbox_xywh[2] * one.bbox_xywh[3], one.image_id))

    def _confident_scores(self, scored: ScoredDetections, results: Rows) -> dict[str, float]:
        scores = np.array([row["score"] for row in results], dtype=np.float64)
        medians = {}
        for name in scored.classes:
            matches = scored.matches[name, "all"]
            if len(right := scores[matches.detections[matches.is_right[0]]]):
                medians[name] = float(np.median(right))
        return medians

    def _of_image(self, image_id: int) -> Iterator[LabelSuspicion]:
        numbers = self._found.get(image_id, [])
        found = [self._found_rows[number] for number in numbers]
        true = [self._true_rows[number] for number in self._true.get(image_id, [])]
        nearest, overlaps, is_found = _nearest(boxes_xywh_of(found), boxes_xywh_of(true))
        for number, row, best, overlap in zip(numbers, found, nearest.tolist(), overlaps.tolist(), strict=True):
            name = self._names[row["category_id"]]
            if not self._is_wrong[number] or row["score"] < self._confident.get(name, np.inf):
                continue
            if overlap < NEAR_IOU:
                yield self._suspicion("unlabeled", image_id, row, None)
            elif overlap >= MATCH_IOU and self._is_other_class(row, true[best]):
                yield self._suspicion("other_class", image_id, row, true[best])
        for row, is_seen in zip(true, is_found.tolist(), strict=True):
            if not is_seen and not row.get("iscrowd"):
                yield self._suspicion("not_found", image_id, None, row)

    @staticmethod
    def _is_other_class(found: Mapping[str, Any], true: Mapping[str, Any]) -> bool:
        return not true.get("iscrowd") and found["category_id"] != true["category_id"]

    def _suspicion(
        self, kind: Any, image_id: int, found: Mapping[str, Any] | None, true: Mapping[str, Any] | None
    ) -> LabelSuspicion:
        shown = found or true
        assert shown is not None
        return LabelSuspicion(
            kind=kind,
            image_id=image_id,
            file_name=self._files[image_id],
            label=self._names[shown["category_id"]],
            bbox_xywh=shown["bbox"],
            score=None if found is None else found["score"],
            annotation_id=None if true is None else true["id"],
            annotated_label=None if true is None else self._names[true["category_id"]],
        )


def suspicions_file(truth: Mapping[str, Any], found: list[LabelSuspicion]) -> dict[str, Any]:
    """Return a COCO instances file with one annotation for each suspicion, for a program that shows labels.

    The category of an annotation is the class that the detector suggests, or that of a label that was not found.
    `suspicion`, `score`, `label_id` and `label` say why it is there, and which label it is about.
    """
    ids = {category["name"]: category["id"] for category in truth["categories"]}
    used = {one.image_id for one in found}
    annotations = [
        {
            "id": number,
            "image_id": one.image_id,
            "category_id": ids[one.label],
            "bbox": one.bbox_xywh,
            "area": one.bbox_xywh[2] * one.bbox_xywh[3],
            "iscrowd": 0,
            "suspicion": one.kind,
            "score": one.score,
            "label_id": one.annotation_id,
            "label": one.annotated_label,
        }
        for number, one in enumerate(found, start=1)
    ]
    return {
        "info": {"description": "labels to review: confident detections without a label, and labels not found"},
        "images": [image for image in truth["images"] if image["id"] in used],
        "annotations": annotations,
        "categories": truth["categories"],
    }


def _nearest(found_xywh: FloatArray, true_xywh: FloatArray) -> tuple[IntArray, FloatArray, BoolArray]:
    """Return the box with the highest IoU of each detection (N,), that IoU (N,), and which boxes (G,) are found by any.

    Without boxes, the IoU is 0. At most `MAX_PAIRS` pairs are held at a time.
    """
    nearest, overlaps = np.zeros(len(found_xywh), dtype=np.int64), np.zeros(len(found_xywh))
    is_found = np.zeros(len(true_xywh), dtype=bool)
    size = max(1, MAX_PAIRS // max(1, len(true_xywh)))
    for start in range(0, len(found_xywh) if len(true_xywh) else 0, size):
        part = slice(start, start + size)
        ious = box_iou(found_xywh[part, None], true_xywh[None])
        nearest[part], overlaps[part] = ious.argmax(axis=1), ious.max(axis=1)
        is_found |= (ious >= MATCH_IOU).any(axis=0)
    return nearest, overlaps, is_found


def _by_image(rows: Rows) -> dict[int, list[int]]:
    """Return the positions of the rows of each image."""
    found: dict[int, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        found[row["image_id"]].append(number)
    return dict(found)
