"""The images of a detection task with their boxes, each marked as right or as an error.

The rules are those of the confusion matrix: over all classes of an image, each detection above the threshold of its
class takes the box with the highest IoU, from 0.5, that none with a higher score has taken. Crowds, and detections that
match a crowd of their class, are ignored.

Legend: I images, N detections, G boxes of the ground truth, M marks.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.tasks.arrays import BoolArray, FloatArray, IntArray
from pipelines.tasks.class_thresholds import class_thresholds
from pipelines.tasks.detection.scoring.box_matching import boxes_of_classes
from pipelines.tasks.detection.scoring.boxes import CocoFile, FoundBoxes, TrueBoxes
from pipelines.tasks.detection.scoring.overlaps import MATCH_IOU, NO_BOX
from pipelines.tasks.detection.scoring.result_rows import read_found
from pipelines.tasks.evaluated_images import EvaluatedImages, MarkedImages, Marks
from pipelines.tasks.image_marks import (
    NO_CLASS,
    EvaluatedImage,
    ImageName,
    MarkedLabel,
    MarkedPrediction,
    Outcome,
    outcome_of,
)

ALL_IN_ONE = 0
"""The one class that all boxes have where classes do not matter."""


class EvaluatedDetections(EvaluatedImages):
    """The boxes of a split.

    Args:
        truth: a COCO instances file.
        found: detections in its images.
        best_thresholds: by class, see `class_thresholds`.
        costs: by the ids of images, see `WorstImage`.
    """

    def __init__(
        self,
        truth: CocoFile,
        found: FoundBoxes,
        best_thresholds: Mapping[str, float | None],
        costs: Mapping[int, float] | None = None,
    ) -> None:
        images = sorted(truth["images"], key=lambda image: int(image["id"]))
        self.names = [ImageName(row["id"], row.get("source", ""), row["file_name"]) for row in images]
        self.sizes_wh = [(row.get("width"), row.get("height")) for row in images]
        self.image_ids = np.array([row["id"] for row in images], dtype=np.int64)
        self.classes = [category["name"] for category in truth["categories"]]
        self.category_ids = np.array([category["id"] for category in truth["categories"]], dtype=np.int64)
        self.truth, self.found = TrueBoxes.from_rows(truth["annotations"]), found
        self.annotation_ids = [row["id"] for row in truth["annotations"]]
        self.best_thresholds = dict(class_thresholds(best_thresholds))
        self.costs = dict(costs or {})
        for ids, known in ((found.image_ids, self.image_ids), (found.category_ids, self.category_ids)):
            if not np.isin(ids, known).all():
                raise ValueError("the detections name images or categories that the ground truth does not have")

    @classmethod
    def read(
        cls, result: Mapping[str, Any], predictions: Path, ground_truth: Path, worst: Path
    ) -> "EvaluatedDetections":
        """Read the files of a run folder; the list of worst images may be missing."""
        best = {row["label"]: row.get("best_threshold") for row in result["per_class"]}
        listed = json.loads(worst.read_bytes())["images"] if worst.is_file() else []
        costs = {row["image_id"]: row["cost"] for row in listed}
        return cls(json.loads(ground_truth.read_bytes()), read_found(predictions), best, costs)

    def marked(self, threshold: float | None) -> "MarkedDetections":
        thresholds = self.best_thresholds if threshold is None else dict.fromkeys(self.classes, threshold)
        classes = _positions(self.category_ids, self.found.category_ids)
        limits = np.array([thresholds[name] for name in self.classes])
        return MarkedDetections(self, np.flatnonzero(self.found.scores > limits[classes]), thresholds)


class MarkedDetections(MarkedImages):
    """Boxes that are marked.

    Args:
        images: the boxes of the split.
        kept: positions of the detections that count, N' of them.
    """

    iou = MATCH_IOU

    def __init__(self, images: EvaluatedDetections, kept: IntArray, thresholds: Mapping[str, float]) -> None:
        self.names, self.classes, self.thresholds = images.names, images.classes, thresholds
        self._split = images
        truth, found = images.truth, _rows_of(images.found, kept)
        self._found = found
        self._true_classes = _positions(images.category_ids, truth.category_ids)
        self._found_classes = _positions(images.category_ids, found.category_ids)
        self._is_ignored = _matches_a_crowd(images, found)
        self._taken = _boxes_taken(images, found, self._is_ignored)
        self._taken_by = np.full(len(truth.areas), NO_BOX)
        takers = np.flatnonzero(self._taken != NO_BOX)
        self._taken_by[self._taken[takers]] = takers
        self.marks = self._marks()
        self._num_errors = self.num_errors()
        self.badness = self._badness()

    def image(self, position: int) -> EvaluatedImage:
        image_id, source, file_name = self.names[position]
        width, height = self._split.sizes_wh[position]
        return EvaluatedImage(
            image_id=image_id,
            source=source,
            file_name=file_name,
            width=width,
            height=height,
            num_errors=int(self._num_errors[position]),
            cost=self._split.costs.get(image_id),
            truth=list(self._labels(image_id)),
            predictions=sorted(self._predictions(image_id), key=lambda prediction: -prediction.score),
        )

    def _labels(self, image_id: int) -> Iterator[MarkedLabel]:
        truth = self._split.truth
        for row in np.flatnonzero(truth.image_ids == image_id).tolist():
            taker = int(self._taken_by[row])
            true, found = int(self._true_classes[row]), NO_CLASS if taker == NO_BOX else int(self._found_classes[taker])
            outcome: Outcome = "ignored" if truth.is_crowd[row] else outcome_of(true, found)
            x, y, width, height = truth.boxes_xywh[row].tolist()
            yield MarkedLabel(
                label=self.classes[true],
                outcome=outcome,
                predicted=None if found == NO_CLASS else self.classes[found],
                bbox_xywh=(x, y, width, height),
                annotation_id=self._split.annotation_ids[row],
            )

    def _predictions(self, image_id: int) -> Iterator[MarkedPrediction]:
        for row in np.flatnonzero(self._found.image_ids == image_id).tolist():
            box = int(self._taken[row])
            true, found = NO_CLASS if box == NO_BOX else int(self._true_classes[box]), int(self._found_classes[row])
            outcome: Outcome = "ignored" if self._is_ignored[row] else outcome_of(true, found)
            x, y, width, height = self._found.boxes_xywh[row].tolist()
            yield MarkedPrediction(
                label=self.classes[found],
                score=float(self._found.scores[row]),
                outcome=outcome,
                truth=None if true == NO_CLASS else self.classes[true],
                bbox_xywh=(x, y, width, height),
            )

    def _marks(self) -> Marks:
        """Return a mark for each detection that counts, and one for each missed box."""
        counted = np.flatnonzero(~self._is_ignored)
        missed = np.flatnonzero((self._taken_by == NO_BOX) & ~self._split.truth.is_crowd)
        images = np.concatenate([self._found.image_ids[counted], self._split.truth.image_ids[missed]])
        # The last entry is the class of no box.
        true_classes = np.append(self._true_classes, NO_CLASS)[self._taken[counted]]
        return Marks(
            np.searchsorted(self._split.image_ids, images),
            np.concatenate([true_classes, self._true_classes[missed]]),
            np.concatenate([self._found_classes[counted], np.full(len(missed), NO_CLASS)]),
        )

    def _badness(self) -> FloatArray:
        """Return numbers (I,) that order images by what they cost in AP, as far as that is known, then by errors."""
        costs = np.array([self._split.costs.get(name.image_id, 0.0) for name in self.names])
        return np.where(costs > 0, len(self._found.scores) + len(self._taken_by) + 1 + costs, self._num_errors)


def _rows_of(found: FoundBoxes, rows: IntArray) -> FoundBoxes:
    return FoundBoxes(found.image_ids[rows], found.category_ids[rows], found.boxes_xywh[rows], found.scores[rows])


def _positions(known_ids: IntArray, ids: IntArray) -> IntArray:
    """Return the position of each id among the known ones, which are in any order."""
    order = np.argsort(known_ids)
    return order[np.searchsorted(known_ids, ids, sorter=order)]


def _matches_a_crowd(images: EvaluatedDetections, found: FoundBoxes) -> BoolArray:
    """Return a mask (N,) of the detections that match a crowd of their class, and no other box of it."""
    is_ignored = np.zeros(len(found.scores), dtype=bool)
    for boxes in boxes_of_classes(images.truth, found, images.image_ids, images.category_ids, np.inf):
        _, ignored, _ = boxes.matches("all")
        is_ignored[boxes.detections] = ignored[0]
    return is_ignored


def _boxes_taken(images: EvaluatedDetections, found: FoundBoxes, is_ignored: BoolArray) -> IntArray:
    """Return the box (N,) of any class that each detection takes, as its position in the annotations, or `NO_BOX`."""
    counted, labels = np.flatnonzero(~is_ignored), np.flatnonzero(~images.truth.is_crowd)
    detections = replace(_rows_of(found, counted), category_ids=np.full(len(counted), ALL_IN_ONE))
    truth = images.truth
    boxes_of_one = TrueBoxes(
        truth.image_ids[labels], np.full(len(labels), ALL_IN_ONE), truth.boxes_xywh[labels], truth.areas[labels],
        truth.is_crowd[labels],
    )  # fmt: skip
    taken = np.full(len(found.scores), NO_BOX)
    for boxes in boxes_of_classes(boxes_of_one, detections, images.image_ids, np.array([ALL_IN_ONE]), np.inf):
        matched = np.append(labels[boxes.boxes], NO_BOX)[boxes.matches("all")[0][0]]
        taken[counted[boxes.detections]] = matched
    return taken
