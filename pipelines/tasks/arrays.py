"""Types of NumPy arrays, ratios that may be undefined, and rows of length 1."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Return part / whole, whose shapes are broadcast; NaN where whole is 0."""
    shares: NDArray[np.float64] = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    np.divide(part, whole, out=shares, where=whole != 0)
    return shares


def unit_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Return rows (N, D) of length 1, of the same type; a row of zeros stays, and is equally far from all."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units: NDArray[Any] = rows / np.where(lengths > 0, lengths, 1).astype(rows.dtype)
    return units
