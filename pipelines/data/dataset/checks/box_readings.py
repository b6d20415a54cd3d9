"""Recognize boxes whose four numbers have another unit or another order than their format says. Torch-free.

A reading is an order of the four numbers and a scale: pixels, or parts of the image's side (relative 0..1, percent
0..100, thousandths 0..1000). Numbers alone prove nothing about one box, so that a layer is judged as a whole, and only
by patterns that correct boxes do not have:

- **Tiny**: at least 95 % of the boxes, and at least 2, have all four numbers between 0 and 1 although 1 is at most an
  eighth of each side of their image. Correct boxes would all lie in the first pixel (or percent) of their image.
- **Misfits**: many boxes have a negative side, or leave their image by more than a fifth of their own side (and 4
  pixels), while nearly all lie inside of it in another reading. All boxes must be misfits, or a quarter of them and at
  least 3, and 95 % must fit as corners. Centers and swapped axes resemble correct boxes more closely: half of the boxes
  and at least 3, or 5 % and at least 10, must be misfits, and 99 % must fit. Boxes that leave their image by a few
  pixels, as sloppy labels do, are not misfits.
- **Corners in place of centers**: corners that are read as a center and a size leave the image by less. It is enough
  that half of the boxes, and at least 3, leave it by 2 % of its side (and 2 pixels), if all of them fit as corners.
- **Scale**: at least 20 boxes of a format in pixels end at 100 or 1000 in both directions (within 1 %), although nearly
  all images are at least 1.5 times as large.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipelines.formats.box_numbers import ORDERS, BoxNumbers, Order

_CORNERS: tuple[Order, ...] = ("xyxy", "yxyx", "xywh")
_MIN_ODD = 3
_SCALES = {0: (0, 100, 1000), 1: (1,), 100: (100, 0, 1000)}
"""The units in which misfits may make sense, by the unit of the format."""


@dataclass(frozen=True)
class Reading:
    """An order and a unit in which the boxes of a layer make sense, and the number of those that support it.

    Attributes:
        order: order of the four numbers.
        scale: 0 for pixels, otherwise the number that stands for the whole side of the image.
        num_odd: boxes that make no sense as the format says.
        num_fitting: boxes that lie in their image in this reading.
        example: index of one of the odd boxes.
    """

    order: Order
    scale: int
    num_odd: int
    num_fitting: int
    example: int


def other_readings(numbers_N4: np.ndarray, sizes_N2: np.ndarray, declared: BoxNumbers) -> list[Reading]:
    """Return the other readings that fit the boxes of a layer best; none if they can be what the format says.

    Args:
        numbers_N4: the four numbers of each box as they are in the file.
        sizes_N2: width and height (px) of each box's image.
        declared: what the numbers mean in the format.
    """
    if len(numbers_N4) < 2:
        return []
    for pattern in (_tiny, _misfits, _corners_as_centers, _scaled):
        readings = list(pattern(numbers_N4, sizes_N2, declared))
        # The first unit is the simplest one.
        readings = [reading for reading in readings if reading.scale == readings[0].scale]
        if readings:
            most = max(reading.num_fitting for reading in readings)
            best = [reading for reading in readings if reading.num_fitting == most]
            # Some models put y first in percent or thousandths; otherwise swapped axes are unusual.
            takes_y_first = readings[0].scale >= 100 and readings[0].scale != declared.scale
            upright = [reading for reading in best if takes_y_first or not reading.order.startswith("y")]
            return upright or best
    return []


def corners(numbers_N4: np.ndarray, order: Order) -> np.ndarray:
    """Return x1, y1, x2, y2 of boxes whose numbers have an order."""
    a, b, c, d = numbers_N4.T
    columns = {
        "xywh": (a, b, a + c, b + d),
        "xyxy": (a, b, c, d),
        "cxcywh": (a - c / 2, b - d / 2, a + c / 2, b + d / 2),
        "yxhw": (b, a, b + d, a + c),
        "yxyx": (b, a, d, c),
    }[order]
    return np.stack(columns, axis=1)


def _tiny(numbers_N4: np.ndarray, sizes_N2: np.ndarray, declared: BoxNumbers) -> Iterator[Reading]:
    is_small = ((numbers_N4 >= -0.05) & (numbers_N4 <= 1.05)).all(axis=1)
    is_tiny = np.asarray(is_small & (_whole(sizes_N2, declared.scale) >= 8).all(axis=1))
    if is_tiny.sum() < max(2, 0.95 * len(numbers_N4)):
        return
    for order in _orders_from(declared.order):
        fitting = _lies_inside(corners(numbers_N4, order), np.ones_like(sizes_N2), 0.01)[is_tiny]
        yield _reading(order, 1, is_tiny, fitting)


def _misfits(numbers_N4: np.ndarray, sizes_N2: np.ndarray, declared: BoxNumbers) -> Iterator[Reading]:
    leaves_N2, sides_N2 = _leaving_px(numbers_N4, sizes_N2, declared)
    is_odd = np.asarray(((leaves_N2 > np.maximum(4, sides_N2 / 5)) | (sides_N2 <= -4)).any(axis=1))
    num_boxes, num_odd = len(is_odd), int(is_odd.sum())
    if num_odd < max(min(_MIN_ODD, num_boxes), 0.05 * num_boxes):
        return
    for scale in _SCALES[declared.scale]:
        for order in ORDERS:
            if (order, scale) == (declared.order, declared.scale):
                continue
            boxes = corners(numbers_N4, order)
            fitting = _lies_inside(boxes, _whole(sizes_N2, scale), 1 if scale == 0 else 0.01 * scale)
            is_plain = order in _CORNERS or scale != declared.scale
            enough = num_odd >= 0.25 * num_boxes if is_plain else num_odd >= 0.5 * num_boxes or num_odd >= 10
            fills = scale in (0, declared.scale) or boxes[:, 2:].max() >= 0.8 * scale
            if enough and fills and fitting.sum() >= (0.95 if is_plain else 0.99) * num_boxes:
                yield _reading(order, scale, is_odd, fitting)


def _corners_as_centers(numbers_N4: np.ndarray, sizes_N2: np.ndarray, declared: BoxNumbers) -> Iterator[Reading]:
    if declared.order != "cxcywh":
        return
    leaves_N2, _ = _leaving_px(numbers_N4, sizes_N2, declared)
    is_odd = np.asarray((leaves_N2 > np.maximum(2, 0.02 * sizes_N2)).any(axis=1))
    fitting = _lies_inside(numbers_N4, _whole(sizes_N2, declared.scale), 0.01 * declared.scale)
    if is_odd.sum() >= max(_MIN_ODD, 0.5 * len(is_odd)) and fitting.all():
        yield _reading("xyxy", declared.scale, is_odd, fitting)


def _scaled(numbers_N4: np.ndarray, sizes_N2: np.ndarray, declared: BoxNumbers) -> Iterator[Reading]:
    for scale in (100, 1000) if declared.scale == 0 else ():
        is_large = np.asarray((sizes_N2 >= 1.5 * scale).all(axis=1))
        if len(numbers_N4) < 20 or is_large.sum() < 0.95 * len(numbers_N4):
            continue
        for order in _orders_from(declared.order):
            boxes = corners(numbers_N4, order)
            fitting = _lies_inside(boxes, _whole(sizes_N2, scale), 0.01 * scale)
            ends = boxes[:, 2:].max(0)
            starts = boxes[:, :2].min(0)
            if fitting.all() and (ends >= 0.99 * scale).all() and (starts <= 0.2 * scale).all():
                yield _reading(order, scale, is_large, fitting)


def _orders_from(first: Order) -> tuple[Order, ...]:
    return (first, *(order for order in ORDERS if order != first))


def _whole(sizes_N2: np.ndarray, scale: int) -> np.ndarray:
    """Return the numbers (N, 2) that stand for the whole width and height of each image."""
    return sizes_N2 if scale == 0 else np.full_like(sizes_N2, scale)


def _leaving_px(numbers_N4: np.ndarray, sizes_N2: np.ndarray, declared: BoxNumbers) -> tuple[np.ndarray, np.ndarray]:
    """Return by how much the boxes leave their image in each direction, and their sides (both in pixels)."""
    pixels_N2 = sizes_N2 / _whole(sizes_N2, declared.scale)
    boxes_xyxy = corners(numbers_N4, declared.order)
    starts, ends = boxes_xyxy[:, :2] * pixels_N2, boxes_xyxy[:, 2:] * pixels_N2
    return np.maximum(-starts, ends - sizes_N2), ends - starts


def _lies_inside(boxes_xyxy: np.ndarray, sizes_N2: np.ndarray, tolerance: float) -> np.ndarray:
    starts, ends = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    is_inside = (starts >= -tolerance) & (ends <= sizes_N2 + tolerance) & (ends > starts)
    return np.asarray(is_inside.all(axis=1))


def _reading(order: Order, scale: int, is_odd: np.ndarray, fitting: np.ndarray) -> Reading:
    return Reading(order, scale, int(is_odd.sum()), int(fitting.sum()), int(is_odd.argmax()))
