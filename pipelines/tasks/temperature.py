"""Fit the temperature that scores are calibrated with (Guo et al. 2017, arXiv 1706.04599, section 4.2).

Legend: N predictions, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.tasks.arrays import BoolArray, FloatArray, IntArray
from pipelines.tasks.calibration import calibration

LIMITS = (0.05, 20.0)
"""Lowest and highest temperature. Predictions that are all right have the lowest one as their best."""

STEPS = 60
SMALLEST = 1e-30
"""Scores are at least this far from 0 and 1, so that their logits are finite."""


@dataclass(frozen=True)
class FittedTemperature:
    """A temperature, and the expected calibration errors without and with it on the predictions that it was fitted to.

    It is 1 where no other temperature lowers the error.
    """

    temperature: float
    ece_before: float
    ece_after: float


def fit_independent(scores: FloatArray, is_right: BoolArray) -> FittedTemperature | None:
    """Return the temperature of scores that are sigmoids, such as those of detections; None without predictions.

    It minimizes the negative log-likelihood, which is convex in 1 / temperature.

    Args:
        scores: (N,) in [0, 1].
        is_right: (N,).
    """
    if not len(scores):
        return None
    exact = np.clip(scores.astype(np.float64), SMALLEST, 1 - 1e-16)
    logits = np.log(exact) - np.log1p(-exact)

    def rescaled(factor: float) -> NDArray[np.float64]:
        return _sigmoid(factor * logits)

    factor = _root(lambda factor: float(((rescaled(factor) - is_right) * logits).sum()))
    errors = [calibration(rescaled(each), is_right)["ece"] for each in (1.0, factor)]
    return _fitted(factor, *errors)


def fit_exclusive(scores: FloatArray, labels: IntArray) -> FittedTemperature | None:
    """Return the temperature of scores that are a softmax; None without predictions. See `fit_independent`.

    Args:
        scores: (N, K) in [0, 1].
        labels: (N,) positions of the classes.
    """
    if not len(scores):
        return None
    logits = np.log(np.maximum(scores.astype(np.float64), SMALLEST))
    own = logits[np.arange(len(labels)), labels]

    def rescaled(factor: float) -> NDArray[np.float64]:
        shifted = factor * logits
        powers = np.exp(shifted - shifted.max(axis=1, keepdims=True))
        shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return shares

    factor = _root(lambda factor: float(((rescaled(factor) * logits).sum(axis=1) - own).sum()))
    is_right = scores.argmax(axis=1) == labels
    errors = [calibration(np.minimum(rescaled(each).max(axis=1), 1.0), is_right)["ece"] for each in (1.0, factor)]
    return _fitted(factor, *errors)


def _fitted(factor: float, before: float, after: float) -> FittedTemperature:
    return FittedTemperature(1 / factor, before, after) if after < before else FittedTemperature(1.0, before, before)


def _root(slope: Callable[[float], float]) -> float:
    """Return the factor on logits, within the limits, at which an increasing slope is 0; its logarithm is bisected."""
    low, high = np.log(1 / LIMITS[1]), np.log(1 / LIMITS[0])
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(float(np.exp(middle))) > 0 else (middle, high)
    return float(np.exp((low + high) / 2))


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(-np.abs(values))
    result: NDArray[np.float64] = np.where(values >= 0, 1.0, powers) / (1 + powers)
    return result
