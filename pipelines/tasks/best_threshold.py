"""The score threshold of a class with the highest F1 (van Rijsbergen 1979, "Information Retrieval", chapter 7).

A prediction is accepted if its score is above the threshold, as in the decoding of heads.

Legend: N predictions of one class.
"""

from __future__ import annotations

import numpy as np

from pipelines.tasks.arrays import BoolArray, FloatArray
from pipelines.tasks.base import BestThresholds, ClassAtBestThreshold


def best_threshold(scores: FloatArray, is_right: BoolArray, num_true: int) -> float | None:
    """Return the threshold above which predictions have the highest F1, or None if that is 0.

    It lies in the middle between the lowest accepted score and the next lower one (0 if there is none), so that
    rounding differences of another precision or batch do not change what is accepted. Of several thresholds with the
    same F1, the highest is returned, which accepts the fewest predictions.

    Args:
        scores: (N,) in [0, 1], in any order.
        is_right: (N,) whether each prediction is a true positive.
        num_true: number of objects, or of images, that should be found.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order].astype(np.float64)
    hits = np.cumsum(is_right[order])
    # No threshold separates equal scores, or accepts a score of 0.
    lowest = np.flatnonzero(np.diff(ordered, append=-1.0))
    lowest = lowest[ordered[lowest] > 0]
    f1 = 2 * hits[lowest] / (num_true + lowest + 1)
    if not len(lowest) or f1.max() == 0:
        return None
    last = lowest[f1.argmax()]
    accepted = float(ordered[last])
    rejected = float(ordered[last + 1]) if last + 1 < len(ordered) else 0.0
    middle = rejected + (accepted - rejected) / 2
    return middle if middle < accepted else rejected


def scores_at_best(
    label: str, scores: FloatArray, is_right: BoolArray, num_true: int, best_thresholds: BestThresholds | None
) -> dict[str, float | None]:
    """Return the fields of `ClassAtBestThreshold` for one class.

    Args:
        label: name of the class.
        scores, is_right, num_true: see `best_threshold`.
        best_thresholds: those found on val; None: find that of these predictions.
    """
    threshold = best_threshold(scores, is_right, num_true) if best_thresholds is None else best_thresholds.get(label)
    if threshold is None:
        return without_threshold()
    # In float32, a threshold between two scores could become equal to one of them.
    is_accepted = scores.astype(np.float64) > threshold
    num_accepted, num_hits = int(is_accepted.sum()), int((is_accepted & is_right).sum())
    return {
        "best_threshold": threshold,
        "precision_at_best": _ratio(num_hits, num_accepted),
        "recall_at_best": _ratio(num_hits, num_true),
        "f1_at_best": _ratio(2 * num_hits, num_true + num_accepted),
    }


def without_threshold() -> dict[str, float | None]:
    """Return the fields of `ClassAtBestThreshold` for a class that has no best threshold."""
    return dict.fromkeys(ClassAtBestThreshold.model_fields)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
