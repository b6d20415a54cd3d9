"""Average precision as in PASCAL VOC (Everingham et al. 2010, "The PASCAL Visual Object Classes Challenge").

A detection belongs to the box of its class with the highest IoU in its image, whether or not another detection has it
already. From IoU 0.5, the detection with the highest score finds the box, and all others are wrong. Detections that
belong to a difficult box count neither as right nor as wrong. Deviations from VOC's program: the IoU is that of
continuous coordinates (VOC adds 1 to widths and heights), an IoU of exactly 0.5 suffices, and crowds are treated
like difficult boxes. Of detections with equal scores, the first one counts first.

Legend: N detections, K classes.
"""

import numpy as np
from numpy.typing import NDArray

from pipelines.tasks.arrays import BoolArray, IntArray
from pipelines.tasks.detection.scoring.coco_evaluation import CocoEvaluation
from pipelines.tasks.detection.scoring.overlaps import MATCH_IOU, NO_BOX, box_iou, pairs_of_equal_keys


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
    true_keys, found_keys = evaluation.image_and_class()
    for detections, boxes in pairs_of_equal_keys(found_keys, true_keys):
        ious = box_iou(evaluation.found.boxes_xywh[detections], evaluation.truth.boxes_xywh[boxes])
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
