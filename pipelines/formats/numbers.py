"""Numbers in label files. Torch-free."""

import math
from typing import Any

_LIMIT = 1e15
"""Larger numbers are not lengths of anything, and products of them leave the range of floats."""


def is_number(value: Any) -> bool:
    """Return whether a value of a JSON file is a finite number below 1e15; truth values are not numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LIMIT


def number_in(text: str | None) -> float | None:
    """Return the finite number below 1e15 in a text, or None."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) < _LIMIT and "_" not in (text or "") else None
