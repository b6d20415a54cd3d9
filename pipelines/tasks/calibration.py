"""Calibration: how often predictions of a confidence are right (Guo et al. 2017, arXiv 1706.04599).

Legend: N predictions, M bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.tasks.arrays import BoolArray, FloatArray

NUM_BINS = 15
"""The number of bins in the experiments of the paper."""


def calibration(confidences: FloatArray, is_right: BoolArray) -> dict[str, Any]:
    """Return the fields of `Calibration`: the expected calibration error, and the bins that it is made of.

    The bins are M intervals of equal width (equation 3 of the paper): bin m holds the confidences in
    ((m - 1) / M, m / M], and the first one 0 as well. The error is the mean of |share of right predictions - mean
    confidence| over the bins, weighted by their counts; None without predictions.

    Args:
        confidences: (N,) in [0, 1], in any order.
        is_right: (N,) whether each prediction is right.

    Raises:
        ValueError: the shapes differ, or a confidence is outside [0, 1].
    """
    if confidences.shape != is_right.shape or confidences.ndim != 1:
        raise ValueError(f"confidences and is_right: got the shapes {confidences.shape} and {is_right.shape}")
    if confidences.size and not (confidences.min() >= 0 and confidences.max() <= 1):
        raise ValueError(f"confidences: got {confidences.min()} .. {confidences.max()}; they must be in [0, 1]")
    exact = confidences.astype(np.float64)
    bins = np.clip(np.ceil(exact * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
    counts = np.bincount(bins, minlength=NUM_BINS)
    sums = np.bincount(bins, weights=exact, minlength=NUM_BINS)
    hits = np.bincount(bins, weights=is_right, minlength=NUM_BINS)
    rows = [
        {
            "count": int(count),
            "confidence": min(1.0, float(total / count)) if count else None,
            "accuracy": float(right / count) if count else None,
        }
        for count, total, right in zip(counts, sums, hits, strict=True)
    ]
    error = float(np.abs(hits - sums).sum() / len(exact)) if len(exact) else None
    return {"ece": None if error is None else min(1.0, error), "bins": rows}
