"""The images that cost most AP, and labels that may be wrong.

The cost of an image is what AP would gain without it (the jackknife of Quenouille 1949): AP of the split without the
image, minus AP of the split. Errors are counted at IoU 0.5 among detections above the threshold of their class.

Legend: I images, N detections, G boxes of the ground truth.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.tasks.arrays import BoolArray
from pipelines.tasks.base import BestThresholds
from pipelines.tasks.class_thresholds import class_thresholds
from pipelines.tasks.detection.scoring.boxes import CocoRow
from pipelines.tasks.detection.scoring.overlaps import MATCH_IOU
from pipelines.tasks.detection.scoring.resampling import Rows, ScoredDetections
from pipelines.tasks.detection.scoring.suspicions import Suspicions, suspicions_file
from pipelines.tasks.resampling import Numbers, positions_of
from pipelines.tasks.worst_images import FalsePositive, MissedLabel, WorstFiles, WorstImage, WorstImages

MAX_IMAGES = 100
MAX_CANDIDATES = 200
"""Only the images with most errors can be among the worst ones: the cost of each takes an evaluation of the split."""
CELLS = 2**22
"""Numbers held at a time."""


def find_worst(result: Mapping[str, Any], predictions: Path, ground_truth: Path) -> WorstFiles:
    """Return the worst images and the suspicions of the files of a run, see `worst_images`."""
    best = {row["label"]: row.get("best_threshold") for row in result["per_class"]}
    return worst_images(json.loads(ground_truth.read_bytes()), json.loads(predictions.read_bytes()), best)


def worst_images(truth: Mapping[str, Any], results: Rows, best_thresholds: BestThresholds) -> WorstFiles:
    """Return the worst images, most expensive first, and the suspicions.

    Args:
        truth: a COCO instances file.
        results: a COCO results list for it.
        best_thresholds: by class; see `class_thresholds` for classes without one.
    """
    thresholds = dict(class_thresholds(best_thresholds))
    scored = ScoredDetections(truth, results, areas=("all",))
    names = {category["id"]: category["name"] for category in truth["categories"]}
    is_wrong, is_found = _errors(scored, truth["annotations"], results, thresholds)
    missed = [row for row, found in zip(truth["annotations"], is_found, strict=True) if not found]
    errors = _by_image(scored, missed, [results[n] for n in np.flatnonzero(is_wrong).tolist()])
    candidates = sorted(errors, key=lambda position: (-sum(map(len, errors[position])), position))[:MAX_CANDIDATES]
    costs = dict(zip(candidates, _costs(scored, candidates).tolist(), strict=True))
    order = sorted(candidates, key=lambda position: (-costs[position], position))[:MAX_IMAGES]
    found = Suspicions(truth, results, scored, is_wrong).all()
    worst = WorstImages(
        kind="detection",
        iou=MATCH_IOU,
        thresholds=thresholds,
        num_images=len(scored.images),
        num_images_with_errors=len(errors),
        images=[_image(scored.images[position], costs[position], *errors[position], names) for position in order],
        num_suspicions=len(found),
        suspicions=found[:500],
    )
    return WorstFiles(worst, suspicions_file(truth, found))


def _errors(
    scored: ScoredDetections, annotations: Rows, results: Rows, thresholds: Mapping[str, float]
) -> tuple[BoolArray, BoolArray]:
    """Return which detections (N,) are false positives, and which boxes (G,) need not be found or are found.

    Boxes are matched from the highest score down, so that detections below the threshold do not change other matches.
    """
    is_wrong = np.zeros(len(results), dtype=bool)
    is_found = np.array([bool(row.get("iscrowd")) for row in annotations], dtype=bool)
    scores = np.array([row["score"] for row in results], dtype=np.float64)
    for name in scored.classes:
        matches = scored.matches[name, "all"]
        is_kept = scores[matches.detections] > thresholds[name]
        is_wrong[matches.detections] = is_kept & matches.is_counted[0] & ~matches.is_right[0]
        is_found[matches.matched[0][is_kept & matches.is_right[0]]] = True
    return is_wrong, is_found


def _by_image(scored: ScoredDetections, missed: Rows, wrong: Rows) -> dict[int, tuple[list[CocoRow], list[CocoRow]]]:
    """Return missed boxes and false positives of each image that has any, by its position."""
    positions = positions_of(scored.images)
    errors: dict[int, tuple[list[CocoRow], list[CocoRow]]] = {}
    for side, rows in enumerate((missed, wrong)):
        for row in rows:
            errors.setdefault(positions[row["image_id"]], ([], []))[side].append(row)
    return errors


def _costs(scored: ScoredDetections, candidates: Sequence[int]) -> Numbers:
    """Return the cost of each candidate; 0 where the classes of the split are not defined without it."""
    everything = scored.average_precision(np.ones((1, len(scored.images))))
    size = max(1, CELLS // max(scored.num_rows, len(scored.images)))
    parts = [
        scored.average_precision(_without(candidates[start : start + size], len(scored.images)))
        for start in range(0, len(candidates), size)
    ]
    return np.nan_to_num(np.concatenate([np.zeros(0), *parts]) - everything)


def _without(positions: Sequence[int], num_images: int) -> Numbers:
    counts = np.ones((len(positions), num_images))
    counts[np.arange(len(positions)), list(positions)] = 0
    return counts


def _image(image: tuple[int, str], cost: float, missed: Rows, wrong: Rows, names: Mapping[int, str]) -> WorstImage:
    return WorstImage(
        image_id=image[0],
        file_name=image[1],
        cost=cost,
        missed=[
            MissedLabel(annotation_id=row["id"], label=names[row["category_id"]], bbox_xywh=row["bbox"])
            for row in missed
        ],
        false_positives=[
            FalsePositive(label=names[row["category_id"]], score=row["score"], bbox_xywh=row["bbox"])
            for row in sorted(wrong, key=lambda row: -row["score"])
        ],
    )
