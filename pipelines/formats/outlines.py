"""Boxes that enclose polygons and masks. Torch-free."""

from collections.abc import Sequence


def enclosing_box(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float, float, float]:
    """Return left, top, width, height of the smallest box that contains all points."""
    left, top = min(xs), min(ys)
    return left, top, max(xs) - left, max(ys) - top
