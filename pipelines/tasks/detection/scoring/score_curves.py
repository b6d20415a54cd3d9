"""Precision, recall and F1 of the detections above a score.

Legend: N detections, S scores.
"""

import numpy as np

from pipelines.tasks.arrays import BoolArray, FloatArray
from pipelines.tasks.detection.schemas import CURVE_SCORES

DIGITS = 4
"""Decimals that result.json has of each point."""


def score_curves(scores: FloatArray, is_right: BoolArray, num_true: int) -> dict[str, list[float | None]]:
    """Return the fields of `ScoreCurves`: S values each, None where a number is undefined.

    Args:
        scores: (N,) in any order.
        is_right: (N,) whether each detection is right.
        num_true: number of boxes that should be found.
    """
    ordered = np.sort(scores.astype(np.float64))
    ordered_hits = np.sort(scores[is_right].astype(np.float64))
    num_accepted = [len(ordered) - int(np.searchsorted(ordered, score, side="right")) for score in CURVE_SCORES]
    num_right = [len(ordered_hits) - int(np.searchsorted(ordered_hits, score, side="right")) for score in CURVE_SCORES]
    pairs = list(zip(num_right, num_accepted, strict=True))
    return {
        "precision": [_share(right, accepted) for right, accepted in pairs],
        "recall": [_share(right, num_true) for right in num_right],
        "f1": [_share(2 * right, num_true + accepted) for right, accepted in pairs],
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, DIGITS) if whole else None
