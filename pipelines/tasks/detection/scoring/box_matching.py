"""Which detection matches which box, at every IoU threshold and range of areas of COCO.

The rules are those of pycocotools: in an image, detections of a class take boxes in the order of their scores; each
takes the free box with the highest IoU that counts, and only without one a crowd, or a box whose area is out of range.
hotcoco follows the same rules, but returns the matches of all images as Python objects: for 200,000 detections, that
takes 25 CPU-seconds, and this module half of one.

Legend: D detections and G boxes of one class, P pairs of both in one image with IoU 0.5 or more, T IoU thresholds.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.tasks.arrays import BoolArray, FloatArray, IntArray
from pipelines.tasks.detection.scoring.boxes import FoundBoxes, TrueBoxes
from pipelines.tasks.detection.scoring.overlaps import NO_BOX, box_iou, pairs_of_equal_keys

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
MAX_DETECTIONS = 100
"""COCO's numbers take this many detections of a class in an image, those with the highest scores."""

AREA_RANGES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


@dataclass(frozen=True)
class ClassBoxes:
    """Detections and boxes of one class in the images that are scored; a limited number of detections of an image.

    Attributes:
        detections: (D,) positions in the results, highest score first, of equal scores by image and position.
        ranks: (D,) number of detections of the same image that come first.
        found_images, true_images: (D,) and (G,) positions of the images.
        boxes: (G,) positions in the annotations.
        found_areas, true_areas: (D,) and (G,).
        is_crowd: (G,).
        pairs: detection, box and IoU, each (P,), by detection.
    """

    detections: IntArray
    ranks: IntArray
    found_images: IntArray
    true_images: IntArray
    boxes: IntArray
    found_areas: FloatArray
    true_areas: FloatArray
    is_crowd: BoolArray
    pairs: tuple[IntArray, IntArray, FloatArray]

    def matches(self, area: str) -> tuple[IntArray, BoolArray, BoolArray]:
        """Return the box (T, D) that each detection matches (`NO_BOX` without one), whether the detection is ignored
        (T, D), and whether the box is (G,)."""
        low, high = AREA_RANGES[area]
        is_ignored = self.is_crowd | (self.true_areas < low) | (self.true_areas > high)
        taken = np.full((len(IOU_THRESHOLDS), len(self.detections)), NO_BOX, dtype=np.int64)
        limits = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
        found, boxes, ious = self.pairs
        is_single = (np.bincount(found, minlength=len(self.detections))[found] == 1) & (
            np.bincount(boxes, minlength=len(self.boxes))[boxes] == 1
        )
        # Most detections and boxes have only each other.
        for row, limit in zip(taken, limits, strict=True):
            is_match = is_single & (ious >= limit)
            row[found[is_match]] = boxes[is_match]
        choices: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for detection, box, iou in zip(*(x[~is_single].tolist() for x in self.pairs), strict=True):
            choices[detection].append((box, iou))
        for row, limit in zip(taken, limits.tolist(), strict=True):
            _take(row, choices, limit, is_ignored.tolist(), self.is_crowd.tolist())
        is_out = (self.found_areas < low) | (self.found_areas > high)
        return taken, np.where(taken == NO_BOX, is_out, np.append(is_ignored, False)[taken]), is_ignored


def _take(
    taken: NDArray[np.int64],
    choices: dict[int, list[tuple[int, float]]],
    limit: float,
    is_ignored: list[bool],
    is_crowd: list[bool],
) -> None:
    """Let each detection with a choice of boxes take one; of equal IoUs, the last box."""
    is_free = [True] * len(is_ignored)
    for detection in sorted(choices):
        best: tuple[bool, float, int] | None = None
        for box, iou in choices[detection]:
            if iou >= limit and (is_free[box] or is_crowd[box]):
                offer = (not is_ignored[box], iou, box)
                best = offer if best is None or offer > best else best
        if best is not None:
            taken[detection] = best[2]
            is_free[best[2]] = False


def boxes_of_classes(
    truth: TrueBoxes,
    found: FoundBoxes,
    image_ids: IntArray,
    category_ids: IntArray,
    max_detections: float = MAX_DETECTIONS,
) -> Iterator[ClassBoxes]:
    """Yield the boxes of each class in the order of the categories.

    Args:
        truth, found: of all classes.
        image_ids: in ascending order.
        category_ids: one for each class.
        max_detections: of one class in an image.
    """
    true_images = np.searchsorted(image_ids, truth.image_ids)
    found_images = np.searchsorted(image_ids, found.image_ids)
    for category in category_ids.tolist():
        boxes = np.flatnonzero(truth.category_ids == category)
        boxes = boxes[np.argsort(true_images[boxes], kind="stable")]
        chosen = np.flatnonzero(found.category_ids == category)
        chosen = chosen[np.lexsort((-found.scores[chosen], found_images[chosen]))]
        ranks = _ranks_within(found_images[chosen])
        chosen, ranks = chosen[ranks < max_detections], ranks[ranks < max_detections]
        order = np.argsort(-found.scores[chosen], kind="stable")
        chosen, ranks = chosen[order], ranks[order]
        sides = found.boxes_xywh[chosen], truth.boxes_xywh[boxes]
        yield ClassBoxes(
            detections=chosen,
            ranks=ranks,
            found_images=found_images[chosen],
            true_images=true_images[boxes],
            boxes=boxes,
            found_areas=sides[0][:, 2] * sides[0][:, 3],
            true_areas=truth.areas[boxes],
            is_crowd=truth.is_crowd[boxes],
            pairs=_pairs(*sides, found_images[chosen], true_images[boxes], truth.is_crowd[boxes]),
        )


def _ranks_within(groups: IntArray) -> IntArray:
    """Return the position (D,) of each element within its group; groups are ascending."""
    starts = np.searchsorted(groups, groups, side="left")
    return np.arange(len(groups)) - starts


def _pairs(
    found_xywh: FloatArray, true_xywh: FloatArray, found_images: IntArray, true_images: IntArray, is_crowd: BoolArray
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the pairs of one image that can match."""
    parts: list[tuple[IntArray, IntArray, FloatArray]] = []
    for found, boxes in pairs_of_equal_keys(found_images, true_images):
        ious = box_iou(found_xywh[found], true_xywh[boxes], is_crowd[boxes])
        can_match = ious >= IOU_THRESHOLDS[0]
        parts.append((found[can_match], boxes[can_match], ious[can_match]))
    found, boxes, ious = (np.concatenate(column) for column in zip(*parts, strict=True))
    return found, boxes, ious
