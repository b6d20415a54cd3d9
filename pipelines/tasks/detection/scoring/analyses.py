"""What a detector gets wrong: confusion matrix, costs of the kinds of errors, curves over the score, calibration, VOC.

Legend: N detections, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.tasks.arrays import BoolArray, FloatArray
from pipelines.tasks.calibration import calibration
from pipelines.tasks.class_thresholds import class_thresholds
from pipelines.tasks.detection.scoring.boxes import CocoRow
from pipelines.tasks.detection.scoring.coco_evaluation import BACKGROUND_IOU, CocoEvaluation
from pipelines.tasks.detection.scoring.overlaps import MATCH_IOU
from pipelines.tasks.detection.scoring.score_curves import score_curves
from pipelines.tasks.detection.scoring.voc_scores import voc_average_precisions

MAX_CONFUSION_CLASSES = 100
"""Above this the confusion matrix would be most of result.json."""

ERROR_NAMES = {
    "Cls": "classification",
    "Loc": "localization",
    "Both": "classification_and_localization",
    "Dupe": "duplicate",
    "Bkg": "background",
    "Miss": "missed",
}
"""Kinds of errors by their names in TIDE, in the order of the paper."""

ALL_FALSE_POSITIVES = {"FP": "all_false_positives"}


def add_analyses(
    evaluation: CocoEvaluation, categories: Sequence[CocoRow], scores: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the scores of a detection task with everything that `DetectionResult` has beside them.

    Args:
        evaluation: with at least one box in the ground truth.
        categories: in the order of `scores["per_class"]`.
        scores: COCO's numbers, and the numbers of each class with its best threshold.
    """
    counts, is_right = evaluation.matched
    found, num_true = evaluation.found.scores, evaluation.num_true
    by_area, by_points = voc_average_precisions(evaluation)
    per_class = []
    for position, row in zip(evaluation.positions_of(categories), scores["per_class"], strict=True):
        of_class = evaluation.counted_by_class[position]
        curves = score_curves(found[of_class], is_right[of_class], int(num_true[position]))
        extra = {"VOC_AP50": by_area[position], "VOC2007_AP50": by_points[position], "at_score": curves}
        measured = _calibration(found[of_class], is_right[of_class])
        per_class.append({**row, **extra, "ece": measured["ece"] if measured else None})
    return {
        "coco": scores["coco"],
        "voc": {"AP50": _mean(by_area), "AP50_2007": _mean(by_points)},
        "per_class": per_class,
        "at_score": score_curves(found[counts], is_right[counts], int(num_true.sum())),
        "confusion": _confusion(evaluation, categories, scores["per_class"]),
        "errors": _errors(evaluation),
        "calibration": _calibration(found[counts], is_right[counts]),
    }


def _confusion(
    evaluation: CocoEvaluation, categories: Sequence[CocoRow], per_class: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Return the fields of `DetectionConfusion`; classes are in the order of the categories."""
    if len(categories) > MAX_CONFUSION_CLASSES:
        return None
    best = {str(position): row["best_threshold"] for position, row in enumerate(per_class)}
    thresholds = np.array(list(class_thresholds(best).values()))
    order = evaluation.positions_of(categories)
    of_position = np.empty(len(categories))
    of_position[order] = thresholds
    matrix = evaluation.confusion(evaluation.found.scores > of_position[evaluation.found_positions])
    places = [*order, len(categories)]
    counts = matrix[np.ix_(places, places)].tolist()
    return {"iou": MATCH_IOU, "scores": thresholds.tolist(), "counts": counts}


def _calibration(scores: FloatArray, is_right: BoolArray) -> dict[str, Any] | None:
    """Return the fields of `Calibration`; None for scores that are not probabilities, which other programs may have."""
    if len(scores) and not 0 <= scores.min() <= scores.max() <= 1:
        return None
    return calibration(scores, is_right)


def _errors(evaluation: CocoEvaluation) -> dict[str, Any] | None:
    """Return the fields of `ErrorBreakdown`; None without boxes that count."""
    if not evaluation.num_true.any():
        return None
    breakdown = evaluation.error_breakdown()
    costs, counts = breakdown["delta_ap"], breakdown["counts"]
    return {
        "iou": MATCH_IOU,
        "background_iou": BACKGROUND_IOU,
        "AP50": breakdown["ap_base"],
        "cost": {name: costs[short] for short, name in (ERROR_NAMES | ALL_FALSE_POSITIVES).items()},
        "count": {name: counts[short] for short, name in ERROR_NAMES.items()},
    }


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
