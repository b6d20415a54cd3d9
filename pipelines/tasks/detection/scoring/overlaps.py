"""Pairs of detections and boxes of the ground truth, and their IoU.

Legend: N detections, G boxes of the ground truth, P pairs of both.
"""

from collections.abc import Iterator

import numpy as np

from pipelines.tasks.arrays import BoolArray, FloatArray, IntArray

MATCH_IOU = 0.5
"""IoU from which a detection is right, outside of COCO's numbers."""

NO_BOX = -1
"""Position of the box that a detection matches, if it matches none."""

PAIRS_AT_A_TIME = 2_000_000
"""Pairs whose IoU is computed at a time: about 200 MB."""


def box_iou(found_xywh: FloatArray, true_xywh: FloatArray, is_crowd: BoolArray | None = None) -> FloatArray:
    """Return the IoU (...) of boxes (..., 4), whose shapes are broadcast; 0 for two boxes without an area.

    Args:
        found_xywh: detections.
        true_xywh: boxes of the ground truth.
        is_crowd: (...) where the IoU is the covered share of the detection; None: nowhere.
    """
    low = np.maximum(found_xywh[..., :2], true_xywh[..., :2])
    high = np.minimum(found_xywh[..., :2] + found_xywh[..., 2:], true_xywh[..., :2] + true_xywh[..., 2:])
    common = np.clip(high - low, 0, None).prod(axis=-1)
    own = found_xywh[..., 2:].prod(axis=-1)
    union = own + true_xywh[..., 2:].prod(axis=-1) - common
    if is_crowd is not None:
        union = np.where(is_crowd, own, union)
    ious: FloatArray = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return ious


def pairs_of_equal_keys(found_keys: IntArray, true_keys: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield the detections and the boxes (P,) of all pairs with equal keys, such as those of one image and class.

    Pairs are in the order of the detections, then of the boxes. All pairs of a detection come at once. Without pairs,
    empty arrays are yielded.

    Args:
        found_keys: (N,) of the detections.
        true_keys: (G,) of the boxes.
    """
    order = np.argsort(true_keys, kind="stable")
    ordered = true_keys[order]
    starts = np.searchsorted(ordered, found_keys, side="left")
    numbers = np.searchsorted(ordered, found_keys, side="right") - starts
    ends = np.cumsum(numbers)
    begin = 0
    while begin == 0 or begin < len(numbers):
        done = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + PAIRS_AT_A_TIME, side="right")))
        part = numbers[begin:end]
        detections = np.repeat(begin + np.arange(len(part)), part)
        offsets = np.arange(len(detections)) - np.repeat(ends[begin:end] - part - done, part)
        yield detections, order[np.repeat(starts[begin:end], part) + offsets]
        begin = end
