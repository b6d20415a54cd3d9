"""COCO's numbers for samples of the images. Torch-free.

Which detection matches which box does not depend on the other images, so the boxes are matched once, by hotcoco. A
sample only changes how often each detection and each box count. Among detections of one image and class with equal
scores, those that come first count first in every copy of the image.

Legend: I images, S samples, T IoU thresholds, D detections, H right detections.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.tasks.arrays import BoolArray
from pipelines.tasks.detection.schemas import COCO_NUMBERS
from pipelines.tasks.resampling import (
    Counts,
    Numbers,
    SampleScores,
    ScoredImages,
    mean_of_defined,
    positions_of,
    ratio,
)

MAX_DETECTIONS = (1, 10, 100)
RECALL_POINTS = np.linspace(0, 1, 101)
AREAS = {"all": "", "small": "s", "medium": "m", "large": "l"}
"""COCO's ranges of areas, with the letter of each in the names of its numbers."""

Rows = Sequence[Mapping[str, Any]]


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

    image: NDArray[np.int64]
    rank: NDArray[np.int64]
    is_right: BoolArray
    is_counted: BoolArray
    num_boxes: NDArray[np.int64]
    detections: NDArray[np.int64]
    matched: NDArray[np.int64]

    def average_precision(self, counts: Counts) -> Numbers:
        """Return (T, S), NaN for samples without boxes."""
        weights, total = counts[:, self.image], counts @ self.num_boxes
        return np.stack(
            [self._of_threshold(weights, total, *rows) for rows in zip(self.is_right, self.is_counted, strict=True)]
        )

    def _of_threshold(self, weights: Counts, total: Counts, is_right: BoolArray, is_counted: BoolArray) -> Numbers:
        if not is_right.any():
            return np.where(total > 0, 0.0, np.nan)
        hits = np.flatnonzero(is_right)
        found = weights[:, hits].cumsum(axis=1)
        accepted = np.where(is_counted, weights, 0).cumsum(axis=1)[:, hits]
        # Precision is highest at right detections, so the others need not be looked at.
        precision = found / np.maximum(accepted, 1)
        interpolated = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        reached = np.searchsorted(RECALL_POINTS, found / np.maximum(total, 1)[:, None], side="right")
        new_points = np.diff(reached, axis=1, prepend=0)
        mean: Numbers = (interpolated * new_points).sum(axis=1) / len(RECALL_POINTS)
        return np.where(total > 0, mean, np.nan)

    def recall(self, counts: Counts, max_detections: int) -> Numbers:
        """Return (S,), the mean over the thresholds; NaN for samples without boxes."""
        hits = (self.is_right & (self.rank < max_detections)).sum(axis=0)
        per_image = np.bincount(self.image, weights=hits, minlength=counts.shape[1])
        return ratio(counts @ per_image, counts @ self.num_boxes * len(self.is_right))


class ScoredDetections(ScoredImages):
    """Detections of a split, matched to its boxes.

    Args:
        ground_truth: a COCO instances file.
        results: a COCO results list for it.

    Attributes:
        matches: by class and range of areas, see `match_boxes`.
    """

    def __init__(self, ground_truth: Mapping[str, Any], results: Rows) -> None:
        self.images = sorted((image["id"], image["file_name"]) for image in ground_truth["images"])
        names = {category["id"]: category["name"] for category in ground_truth["categories"]}
        self.classes = list(names.values())
        self.labels = _labels(ground_truth["annotations"], names)
        self.matches = match_boxes(ground_truth, results)
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


def match_boxes(ground_truth: Mapping[str, Any], results: Rows) -> dict[tuple[str, str], ClassMatches]:
    """Return the matches by class and range of areas, at COCO's IoU thresholds and at most 100 detections."""
    from hotcoco import COCO, COCOeval

    truth = COCO(
        {
            "images": [{"id": image["id"]} for image in ground_truth["images"]],
            "categories": ground_truth["categories"],
            "annotations": [_truth_row(row, number) for number, row in enumerate(ground_truth["annotations"], start=1)],
        }
    )
    evaluation = COCOeval(truth, truth.load_res([_result_row(row) for row in results]), "bbox")
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    positions = positions_of(sorted((image["id"], "") for image in ground_truth["images"]))
    ranges = list(zip(evaluation.params.area_rng, evaluation.params.area_rng_lbl, strict=True))
    num_thresholds = len(evaluation.params.iou_thrs)
    matches = {}
    # One range at a time: the rows of an evaluation are large.
    for limits, area in ranges:
        evaluation.params.area_rng, evaluation.params.area_rng_lbl = [limits], [area]
        evaluation.evaluate()
        rows: dict[int, list[dict[str, Any]]] = {category_id: [] for category_id in names}
        for row in evaluation.eval_imgs:
            if row is not None:
                rows[row["category_id"]].append(row)
        for category_id, name in names.items():
            matches[name, area] = _class_matches(rows[category_id], positions, num_thresholds)
    return matches


def _class_matches(rows: list[dict[str, Any]], positions: Mapping[int, int], num_thresholds: int) -> ClassMatches:
    rows.sort(key=lambda row: positions[row["image_id"]])
    num_boxes = np.zeros(len(positions), dtype=np.int64)
    for row in rows:
        num_boxes[positions[row["image_id"]]] = row["gtIgnore"].count(False)
    sizes = [len(row["dtScores"]) for row in rows]
    scores = _joined([row["dtScores"] for row in rows], np.float64)
    order = np.argsort(-scores, kind="stable")
    image = np.repeat([positions[row["image_id"]] for row in rows], sizes).astype(np.int64)
    rank = _joined([range(size) for size in sizes], np.int64)
    matched, ignored, boxes = (
        np.concatenate(
            [np.zeros((num_thresholds, 0), dtype=dtype), *(np.array(row[key], dtype=dtype) for row in rows)], axis=1
        )[:, order]
        for key, dtype in (("dtMatched", bool), ("dtIgnore", bool), ("dtMatches", np.int64))
    )
    # hotcoco numbers detections and boxes from 1, in their order.
    detections = _joined([row["dtIds"] for row in rows], np.int64)[order] - 1
    matched_boxes = np.where(matched, boxes - 1, -1)
    return ClassMatches(image[order], rank[order], matched & ~ignored, ~ignored, num_boxes, detections, matched_boxes)


def _joined(parts: Iterable[Sequence[Any]], dtype: Any) -> NDArray[Any]:
    return np.array([value for part in parts for value in part], dtype=dtype)


def _truth_row(row: Mapping[str, Any], number: int) -> dict[str, Any]:
    area = float(row.get("area") or 0.0)
    return {
        "id": number,
        "image_id": row["image_id"],
        "category_id": row["category_id"],
        "bbox": row["bbox"],
        "area": area if area > 0 else float(row["bbox"][2] * row["bbox"][3]),
        "iscrowd": row.get("iscrowd", 0),
    }


def _result_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("image_id", "category_id", "bbox", "score")}


def _labels(annotations: Rows, names: Mapping[int, str]) -> dict[int, tuple[Any, ...]]:
    found: dict[int, list[Any]] = {}
    for row in annotations:
        label = (names[row["category_id"]], *row["bbox"], row.get("iscrowd", 0))
        found.setdefault(row["image_id"], []).append(label)
    return {image_id: tuple(sorted(labels)) for image_id, labels in found.items()}
