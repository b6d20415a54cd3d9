"""Boxes that enclose polygons, rotated boxes and masks. Torch-free."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from pipelines.formats.numbers import is_number

XYWH = tuple[float, float, float, float]
_MAX_BITS = 60
"""Bits of the longest run length that is read."""


def enclosing_box(xs: Sequence[float], ys: Sequence[float]) -> XYWH:
    """Return left, top, width, height of the smallest box that contains all points."""
    left, top = min(xs), min(ys)
    return left, top, max(xs) - left, max(ys) - top


def rotated_box(box_xywh: XYWH, degrees: float, center_xy: tuple[float, float]) -> XYWH:
    """Return the box that encloses a box after a clockwise rotation (y points down) around a point."""
    x, y, width, height = box_xywh
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    offsets = [(corner_x - center_xy[0], corner_y - center_xy[1]) for corner_x, corner_y in corners]
    return enclosing_box(
        [center_xy[0] + cos * dx - sin * dy for dx, dy in offsets],
        [center_xy[1] + sin * dx + cos * dy for dx, dy in offsets],
    )


def ellipse_box(center_xy: tuple[float, float], radii_xy: tuple[float, float], degrees: float) -> XYWH:
    """Return the box that encloses an ellipse after a clockwise rotation (y points down) around its center."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    half_width = math.hypot(radii_xy[0] * cos, radii_xy[1] * sin)
    half_height = math.hypot(radii_xy[0] * sin, radii_xy[1] * cos)
    return center_xy[0] - half_width, center_xy[1] - half_height, 2 * half_width, 2 * half_height


def segmentation_box(segmentation: Any) -> XYWH | str:
    """Return the box that encloses a COCO `segmentation`: polygons, or a mask as run lengths; or what is wrong with it.

    Run lengths count pixels column by column, background first, as a list or compressed to a string.
    """
    if isinstance(segmentation, dict):
        return _box_of_runs(segmentation.get("counts"), segmentation.get("size"))
    polygons = segmentation if isinstance(segmentation, list) else None
    if polygons and all(is_number(value) for value in polygons):
        polygons = [polygons]
    if polygons is None or not all(isinstance(polygon, list) for polygon in polygons):
        return "is not a list of polygons, or an object with 'counts' and 'size'"
    polygons = [polygon for polygon in polygons if polygon]
    if not polygons:
        return "is empty"
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2 or not all(is_number(value) for value in polygon):
            return f"has a polygon of {len(polygon)} values; write x and y of at least three points"
    return enclosing_box(
        [value for polygon in polygons for value in polygon[::2]],
        [value for polygon in polygons for value in polygon[1::2]],
    )


def _box_of_runs(counts: Any, size: Any) -> XYWH | str:
    sides = size if isinstance(size, list) and len(size) == 2 else []
    if not sides or not all(isinstance(side, int) and side > 0 for side in sides):
        return f"has the 'size' {size!r}; write [height, width]"
    if isinstance(counts, str):
        runs = list(_decompressed(counts))
    elif isinstance(counts, list) and all(isinstance(count, int) for count in counts):
        runs = counts
    else:
        return "has 'counts' that are neither a list of integers nor a text"
    height, width = sides
    if any(run < 0 for run in runs) or sum(runs) != height * width:
        return f"has run lengths that do not cover its size, {width} x {height}"
    rows: list[int] = []
    columns: list[int] = []
    end = 0
    for position, run in enumerate(runs):
        start, end = end, end + run
        if position % 2 and run:
            first, last = start // height, (end - 1) // height
            columns += (first, last)
            rows += (start % height, (end - 1) % height) if first == last else (0, height - 1)
    if not rows:
        return "is empty"
    left, top = min(columns), min(rows)
    return float(left), float(top), float(max(columns) - left + 1), float(max(rows) - top + 1)


def _decompressed(text: str) -> Iterator[int]:
    """Yield the run lengths of pycocotools' compressed string.

    A character carries five bits, the lowest first, and a bit that says whether more follow. From the third run on, a
    run is stored as its difference to the run two places before it.
    """
    before: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if not 0 <= bits < 64 or shift > _MAX_BITS:
            yield -1  # no run: the text is not compressed run lengths
            return
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        run = value + (before[-2] if len(before) > 2 else 0)
        before.append(run)
        yield run
        value, shift = 0, 0
