"""COCO's numbers for samples of the images. Torch-free.

Which detection matches which box does not depend on the other images, so the boxes are matched once. A sample only
changes how often each detection and each box count. Among detections of one image and class with equal scores, those
that come first count first in every copy of the image.

Legend: I images, S samples, T IoU thresholds, D detections, H right detections.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.tasks.arrays import BoolArray, IntArray, ratio
from pipelines.tasks.detection.schemas import COCO_NUMBERS
from pipelines.tasks.detection.scoring.box_matching import boxes_of_classes
from pipelines.tasks.detection.scoring.boxes import CocoRow, FoundBoxes, TrueBoxes
from pipelines.tasks.detection.scoring.overlaps import NO_BOX
from pipelines.tasks.resampling import Counts, Numbers, SampleScores, ScoredImages, mean_of_defined

MAX_DETECTIONS = (1, 10, 100)
RECALL_POINTS = np.linspace(0, 1, 101)
AREAS = {"all": "", "small": "s", "medium": "m", "large": "l"}
"""COCO's ranges of areas, with the letter of each in the names of its numbers."""

Rows = Sequence[CocoRow]


@dataclass(frozen=True)
class ClassMatches:
    """Detections of one class, highest score first, matched to the boxes of a range of areas.

    Attributes:
        image: (D,) position of the image.
        rank: (D,) number of detections of the same class and image with a higher score.
        is_right: (T, D) whether the detection matches a box that counts.
        is_counted: (T, D) whether it is right or wrong; one that matches a crowd is neither.
        num_boxes: (I,) number of boxes that count.
        detections: (D,) position of each in the results.
        matched: (T, D) position of the box in the annotations that the detection matches, -1 without one.
    """

    image: IntArray
    rank: IntArray
    is_right: BoolArray
    is_counted: BoolArray
    num_boxes: IntArray
    detections: IntArray
    matched: IntArray

    def average_precision(self, counts: Counts) -> Numbers:
        """Return (T, S), NaN for samples without boxes."""
        # Detections that count at no threshold are many in ranges of areas.
        used = np.flatnonzero(self.is_counted.any(axis=0))
        weights, total = counts[:, self.image[used]], counts @ self.num_boxes
        accepted = weights.cumsum(axis=1)
        rows = zip(self.is_right[:, used], self.is_counted[:, used], strict=True)
        return np.stack([_precision_at_threshold(weights, accepted, total, *row) for row in rows])

    def recall(self, counts: Counts, max_detections: int) -> Numbers:
        """Return (S,), the mean over the thresholds; NaN for samples without boxes."""
        hits = (self.is_right & (self.rank < max_detections)).sum(axis=0)
        per_image = np.bincount(self.image, weights=hits, minlength=counts.shape[1])
        return ratio(counts @ per_image, counts @ self.num_boxes * len(self.is_right))


def _precision_at_threshold(
    weights: Counts, accepted: Counts, total: Counts, is_right: BoolArray, is_counted: BoolArray
) -> Numbers:
    """Return the average precision (S,) of one class at one IoU threshold.

    Args:
        weights: (S, D) how often each detection counts.
        accepted: (S, D) their cumulative sum.
        total: (S,) number of boxes.
        is_right, is_counted: (D,) see `ClassMatches`.
    """
    hits, skipped = np.flatnonzero(is_right), np.flatnonzero(~is_counted)
    found = weights[:, hits].cumsum(axis=1)
    before = accepted[:, hits]
    if len(skipped):
        sums = np.pad(weights[:, skipped].cumsum(axis=1), ((0, 0), (1, 0)))
        before = before - sums[:, np.searchsorted(skipped, hits)]
    # Precision is highest at right detections, so the others need not be looked at.
    precision = found / np.maximum(before, 1)
    interpolated = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(RECALL_POINTS, found / np.maximum(total, 1)[:, None], side="right")
    new_points = np.diff(reached, axis=1, prepend=0)
    mean: Numbers = (interpolated * new_points).sum(axis=1) / len(RECALL_POINTS)
    return np.where(total > 0, mean, np.nan)


class ScoredDetections(ScoredImages):
    """Detections of a split, matched to its boxes.

    Args:
        ground_truth: a COCO instances file.
        results: a COCO results list for it.
        areas: the ranges of areas that are needed; `scores` needs all.

    Attributes:
        matches: by class and range of areas, see `match_boxes`.
    """

    def __init__(self, ground_truth: Mapping[str, Any], results: Rows, areas: Collection[str] = tuple(AREAS)) -> None:
        self.images = sorted((image["id"], image["file_name"]) for image in ground_truth["images"])
        names = {category["id"]: category["name"] for category in ground_truth["categories"]}
        self.classes = list(names.values())
        self.labels = _labels(ground_truth["annotations"], names)
        self.matches = match_boxes(ground_truth, results, areas)
        self.num_rows = max(1, *(len(found.image) for found in self.matches.values()))

    @classmethod
    def read(cls, predictions: Path, ground_truth: Path) -> "ScoredDetections":
        """Read the files of a run folder."""
        return cls(json.loads(ground_truth.read_bytes()), json.loads(predictions.read_bytes()))

    def scores(self, counts: Counts) -> SampleScores:
        precisions = {
            area: np.stack([self.matches[name, area].average_precision(counts) for name in self.classes])
            for area in AREAS
        }
        recalls = {f"AR{at}": self._recall(counts, "all", at) for at in MAX_DETECTIONS} | {
            f"AR{AREAS[area]}": self._recall(counts, area, MAX_DETECTIONS[-1]) for area in list(AREAS)[1:]
        }
        by_class = precisions["all"]
        numbers = {
            "AP50": mean_of_defined(by_class[:, 0]),
            "AP75": mean_of_defined(by_class[:, 5]),
            **{f"AP{AREAS[area]}": mean_of_defined(values.mean(axis=1)) for area, values in precisions.items()},
            **recalls,
        }
        return SampleScores(
            {name: numbers[name] for name in COCO_NUMBERS},
            {
                name: {"AP": values.mean(axis=0), "AP50": values[0]}
                for name, values in zip(self.classes, by_class, strict=True)
            },
        )

    def average_precision(self, counts: Counts) -> Numbers:
        """Return AP (S,) of samples alone."""
        return mean_of_defined(
            np.stack([self.matches[name, "all"].average_precision(counts).mean(axis=0) for name in self.classes])
        )

    def _recall(self, counts: Counts, area: str, max_detections: int) -> Numbers:
        rows = [self.matches[name, area].recall(counts, max_detections) for name in self.classes]
        return mean_of_defined(np.stack(rows))


def match_boxes(
    ground_truth: Mapping[str, Any], results: Rows, areas: Collection[str]
) -> dict[tuple[str, str], ClassMatches]:
    """Return the matches by class and range of areas."""
    truth = TrueBoxes.from_rows(ground_truth["annotations"])
    image_ids = np.sort(np.array([image["id"] for image in ground_truth["images"]], dtype=np.int64))
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    category_ids = np.array(list(names), dtype=np.int64)
    found = FoundBoxes.from_rows(results)
    if not (np.isin(found.image_ids, image_ids).all() and np.isin(found.category_ids, category_ids).all()):
        raise ValueError("the detections name images or categories that the ground truth does not have")
    matches = {}
    for name, boxes in zip(names.values(), boxes_of_classes(truth, found, image_ids, category_ids), strict=True):
        for area in areas:
            taken, is_ignored, is_box_ignored = boxes.matches(area)
            matches[name, area] = ClassMatches(
                image=boxes.found_images,
                rank=boxes.ranks,
                is_right=(taken != NO_BOX) & ~is_ignored,
                is_counted=~is_ignored,
                num_boxes=np.bincount(boxes.true_images[~is_box_ignored], minlength=len(image_ids)),
                detections=boxes.detections,
                matched=np.append(boxes.boxes, NO_BOX)[taken],
            )
    return matches


def _labels(annotations: Rows, names: Mapping[int, str]) -> dict[int, tuple[Any, ...]]:
    found: dict[int, list[Any]] = {}
    for row in annotations:
        label = (names[row["category_id"]], *row["bbox"], row.get("iscrowd", 0))
        found.setdefault(row["image_id"], []).append(label)
    return {image_id: tuple(sorted(labels)) for image_id, labels in found.items()}
