"""COCO's detection numbers, in all and by class.

Legend: T IoU thresholds 0.50:0.95, R recall points, K classes, A areas, M limits of detections.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.tasks.base import BestThresholds
from pipelines.tasks.best_threshold import scores_at_best, without_threshold
from pipelines.tasks.detection.schemas import COCO_NUMBERS
from pipelines.tasks.detection.scoring.analyses import add_analyses
from pipelines.tasks.detection.scoring.boxes import CocoFile, CocoRow, FoundBoxes
from pipelines.tasks.detection.scoring.coco_evaluation import CocoEvaluation

RECALL_STEP = 5
"""Every fifth of COCO's 101 recall points is kept for the precision-recall curve."""

AP50, AP75 = 0, 5
"""Positions of the IoU thresholds 0.50 and 0.75."""

ALL_AREAS, MOST_DETECTIONS = 0, -1


def score_coco(
    ground_truth: CocoFile, found: FoundBoxes, best_thresholds: BestThresholds | None = None
) -> dict[str, Any]:
    """Return the entry of a detection task in result.json, without `kind` and `num_images`, see `DetectionResult`.

    Every image of the file is scored, with or without detections. Numbers without ground truth are None, of a class
    too; classes with ground truth and no detections have 0. No argument is changed.

    Args:
        ground_truth: instances of all images, with crowds.
        found: detections.
        best_thresholds: those found on val; None: find those of these images.

    Raises:
        ValueError: ids of images or categories are not unique, or a box names an unknown one.
    """
    evaluation, categories = CocoEvaluation(ground_truth, found), ground_truth["categories"]
    if not len(evaluation.truth.areas):
        per_class = [_class_row(category, 0, None) | without_threshold() for category in categories]
        return {"coco": dict.fromkeys(COCO_NUMBERS), "per_class": per_class}
    _, is_right = evaluation.matched
    precision = evaluation.precision[..., MOST_DETECTIONS]
    per_class = []
    for category, position in zip(categories, evaluation.positions_of(categories), strict=True):
        of_class = evaluation.counted_by_class[position]
        num_true = int(evaluation.num_true[position])
        at_best = scores_at_best(
            category["name"], evaluation.found.scores[of_class], is_right[of_class], num_true, best_thresholds
        )
        per_class.append(_class_row(category, num_true, precision[:, :, position]) | at_best)
    scores = {"coco": coco_numbers(evaluation.precision, evaluation.recall), "per_class": per_class}
    return add_analyses(evaluation, categories, scores)


def coco_numbers(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> dict[str, float | None]:
    """Return COCO's twelve numbers by name.

    Args:
        precision: (T, R, K, A, M), see `CocoEvaluation`; -1 where it is undefined.
        recall: (T, K, A, M).
    """
    most = precision[..., MOST_DETECTIONS]
    numbers = [most[..., ALL_AREAS], most[AP50, ..., ALL_AREAS], most[AP75, ..., ALL_AREAS]]
    numbers += [most[..., area] for area in (1, 2, 3)]
    numbers += [recall[..., ALL_AREAS, limit] for limit in (0, 1, 2)]
    numbers += [recall[..., area, MOST_DETECTIONS] for area in (1, 2, 3)]
    return dict(zip(COCO_NUMBERS, map(_defined_mean, numbers), strict=True))


def _defined_mean(values: NDArray[np.float64]) -> float | None:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None


def _class_row(category: CocoRow, num_boxes: int, by_area: NDArray[np.float64] | None) -> dict[str, Any]:
    """Return a class's entry; `by_area` is the precision (T, R, A), -1 without ground truth, or None without any."""
    row = {"category_id": category["id"], "label": category["name"], "num_boxes": num_boxes}
    if by_area is None or by_area[..., ALL_AREAS].min() < 0:
        return row | dict.fromkeys(("AP", "AP50", "APs", "APm", "APl", "precision_at_recall"))
    precision = by_area[..., ALL_AREAS]
    return {
        **row,
        "AP": float(precision.mean()),
        "AP50": float(precision[AP50].mean()),
        **{name: _defined_mean(by_area[..., area]) for area, name in enumerate(("APs", "APm", "APl"), start=1)},
        "precision_at_recall": precision[AP50, ::RECALL_STEP].tolist(),
    }
