"""Precision-recall and ROC curves of one class against all others, and its calibration.

Legend: N images.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.tasks.arrays import BoolArray, FloatArray
from pipelines.tasks.calibration import calibration

NUM_POINTS = 21
"""Curves are kept at 0, 0.05 .. 1, so that they stay small in result.json."""

FIELDS = ("ece", "roc_auc", "precision_at_recall", "recall_at_fpr")


def class_curves(scores: FloatArray, truths: BoolArray) -> dict[str, Any]:
    """Return the fields `FIELDS` of one class in result.json; None where they are undefined.

    Every different score is a threshold, so equal scores are never separated. `precision_at_recall` is interpolated as
    in COCO: the highest precision at this recall or a higher one. `recall_at_fpr` is the highest recall with at most
    this false-positive rate. `roc_auc` is the area under the ROC curve by the trapezoidal rule.

    Args:
        scores: (N,) in [0, 1].
        truths: (N,) whether the image has the class.
    """
    found: dict[str, Any] = {**without_curves(), "ece": calibration(scores, truths)["ece"]}
    num_true = int(truths.sum())
    num_false = len(truths) - num_true
    if not num_true:
        return found
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-1.0))
    hits = np.cumsum(truths[order])[ends]
    recall, precision = hits / num_true, hits / (ends + 1)
    best_from = np.maximum.accumulate(precision[::-1])[::-1]
    points = np.linspace(0, 1, NUM_POINTS)
    # A recall such as 3/20 is computed a little below 0.15.
    found["precision_at_recall"] = best_from[np.searchsorted(recall, points - 1e-9)].tolist()
    if num_false:
        false_rate = np.concatenate([[0.0], (ends + 1 - hits) / num_false])
        true_rate = np.concatenate([[0.0], recall])
        found["recall_at_fpr"] = true_rate[np.searchsorted(false_rate, points + 1e-9, side="right") - 1].tolist()
        area = float((np.diff(false_rate) * (true_rate[1:] + true_rate[:-1]) / 2).sum())
        found["roc_auc"] = min(1.0, area)
    return found


def without_curves() -> dict[str, None]:
    """Return the same fields for a class without curves."""
    return dict.fromkeys(FIELDS)
