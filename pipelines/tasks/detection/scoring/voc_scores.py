"""Average precision as in PASCAL VOC (Everingham et al. 2010, "The PASCAL Visual Object Classes Challenge").

A detection belongs to the box of its class with the highest IoU in its image, whether or not another detection has it
already. From IoU 0.5, the detection with the highest score finds the box, and all others are wrong. Detections that
belong to a difficult box count neither as right nor as wrong. Deviations from VOC's program: the IoU is that of
continuous coordinates (VOC adds 1 to widths and heights), an IoU of exactly 0.5 suffices, and crowds are treated
like difficult boxes. Of detections with equal scores, the first one counts first.

Legend: N detections, G boxes of the ground truth, K classes, P pairs of a detection and a box.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipelines.tasks.arrays import BoolArray, FloatArray, IntArray
from pipelines.tasks.detection.scoring.coco_evaluation import MATCH_IOU, CocoEvaluation

PAIRS_AT_A_TIME = 2_000_000
"""Pairs whose IoU is computed at a time: about 200 MB."""

NO_BOX = -1


def voc_average_precisions(evaluation: CocoEvaluation) -> tuple[list[float | None], list[float | None]]:
    """Return AP50 of each class, in the order of `category_ids`: by the area below the curve (VOC 2010 and later), and
    as the mean of 11 points (VOC 2007). Classes without boxes have None; difficult boxes are not counted."""
    taken, is_hit = _matches(evaluation)
    is_counted = (taken == NO_BOX) | ~evaluation.truth.is_crowd[taken]
    areas: list[float | None] = []
    points: list[float | None] = []
    for position, num_true in enumerate(evaluation.num_true.tolist()):
        of_class = np.flatnonzero(is_counted & (evaluation.found_positions == position))
        order = of_class[np.argsort(-evaluation.found.scores[of_class], kind="stable")]
        areas.append(_area(is_hit[order], num_true) if num_true else None)
        points.append(_eleven_points(is_hit[order], num_true) if num_true else None)
    return areas, points


def _matches(evaluation: CocoEvaluation) -> tuple[IntArray, BoolArray]:
    """Return the box that each detection (N,) belongs to, or `NO_BOX`, and whether it finds that box (N,)."""
    taken = np.full(len(evaluation.found.scores), NO_BOX, dtype=np.int64)
    for detections, boxes, ious in _pairs(evaluation):
        # Sorted by detection, then by IoU: the last pair of a detection has the highest IoU, of equal ones the first.
        order = np.lexsort((-boxes, ious, detections))
        detections, boxes, ious = detections[order], boxes[order], ious[order]
        is_best = np.append(detections[1:] != detections[:-1], True) & (ious >= MATCH_IOU)
        taken[detections[is_best]] = boxes[is_best]
    is_hit = np.zeros(len(taken), dtype=bool)
    by_score = np.argsort(-evaluation.found.scores, kind="stable")
    by_score = by_score[taken[by_score] != NO_BOX]
    _, first = np.unique(taken[by_score], return_index=True)
    is_hit[by_score[first]] = True
    return taken, is_hit


def _pairs(evaluation: CocoEvaluation) -> Iterator[tuple[IntArray, IntArray, FloatArray]]:
    """Yield detections, boxes of the same image and class, and their IoU, each (P,), all of a detection at once."""
    true_keys, found_keys = evaluation.image_and_class()
    order = np.argsort(true_keys, kind="stable")
    ordered = true_keys[order]
    starts = np.searchsorted(ordered, found_keys, side="left")
    numbers = np.searchsorted(ordered, found_keys, side="right") - starts
    ends = np.cumsum(numbers)
    begin = 0
    while begin < len(numbers):
        done = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + PAIRS_AT_A_TIME, side="right")))
        part = numbers[begin:end]
        detections = np.repeat(np.arange(begin, end), part)
        offsets = np.arange(len(detections)) - np.repeat(ends[begin:end] - part - done, part)
        boxes = order[np.repeat(starts[begin:end], part) + offsets]
        yield detections, boxes, _iou(evaluation.found.boxes_xywh[detections], evaluation.truth.boxes_xywh[boxes])
        begin = end


def _iou(first_xywh: FloatArray, second_xywh: FloatArray) -> NDArray[np.float64]:
    """Return the IoU (P,) of boxes (P, 4) and (P, 4); 0 for two boxes without an area."""
    low = np.maximum(first_xywh[:, :2], second_xywh[:, :2])
    high = np.minimum(first_xywh[:, :2] + first_xywh[:, 2:], second_xywh[:, :2] + second_xywh[:, 2:])
    common = np.clip(high - low, 0, None).prod(axis=1)
    union = first_xywh[:, 2:].prod(axis=1) + second_xywh[:, 2:].prod(axis=1) - common
    return np.asarray(np.divide(common, union, out=np.zeros_like(common), where=union > 0))


def _curve(is_hit: BoolArray, num_true: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return recall and precision (N,) of detections, highest score first."""
    hits = np.cumsum(is_hit)
    return hits / num_true, hits / np.arange(1, len(is_hit) + 1)


def _area(is_hit: BoolArray, num_true: int) -> float:
    recall, precision = _curve(is_hit, num_true)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * highest).sum())


def _eleven_points(is_hit: BoolArray, num_true: int) -> float:
    recall, precision = _curve(is_hit, num_true)
    # A tolerance, because 0.3 and 3 of 10 boxes are the same recall but not the same number.
    points = [precision[recall >= point - 1e-12].max(initial=0.0) for point in np.linspace(0, 1, 11)]
    return float(np.mean(points))
