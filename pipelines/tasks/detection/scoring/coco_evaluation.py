"""COCO's evaluation of boxes, by hotcoco: pycocotools' numbers in a fraction of its time and memory.

Legend: N detections, G boxes of the ground truth, T IoU thresholds 0.50:0.95, R recall points, K classes, A areas (all,
small, medium, large), M limits of detections per image and class (1, 10, 100).
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import hotcoco
import numpy as np
from numpy.typing import NDArray

from pipelines.tasks.arrays import BoolArray, IntArray
from pipelines.tasks.detection.scoring.box_matching import MAX_DETECTIONS
from pipelines.tasks.detection.scoring.boxes import CocoFile, CocoRow, FoundBoxes, TrueBoxes
from pipelines.tasks.detection.scoring.overlaps import MATCH_IOU

BACKGROUND_IOU = 0.1
"""IoU up to which a detection shows background, in the breakdown of errors."""

NO_LABEL_ERRORS = 2.0
"""A score that no detection has: hotcoco then lists no candidates for label errors, which takes most of the time."""


class CocoEvaluation:
    """One evaluation of detections against a ground truth; every result is computed when it is first read.

    hotcoco sees the ids of images and categories as their ranks from 1, which keep the order of ties. Large ids, or
    the id 0, then cannot matter.

    Attributes:
        truth: boxes of the ground truth, crowds included.
        found: detections; None of the arguments is changed.
        category_ids: in ascending order, as the classes of all results.
    """

    def __init__(self, ground_truth: CocoFile, found: FoundBoxes) -> None:
        """Check the ids.

        Raises:
            ValueError: ids of images or categories are not unique, or a box names an unknown one.
        """
        self.truth = TrueBoxes.from_rows(ground_truth["annotations"])
        self.found = found
        self.image_ids = _unique("image", [image["id"] for image in ground_truth["images"]])
        self.category_ids = _unique("category", [category["id"] for category in ground_truth["categories"]])
        self._true_ranks, self._found_ranks = self._ranks(self.truth), self._ranks(found)

    @cached_property
    def precision(self) -> NDArray[np.float64]:
        """Interpolated precision (T, R, K, A, M), -1 without ground truth."""
        return self._accumulated[0]

    @cached_property
    def recall(self) -> NDArray[np.float64]:
        """Highest recall (T, K, A, M), -1 without ground truth."""
        return self._accumulated[1]

    @cached_property
    def num_true(self) -> IntArray:
        """Number of boxes of the ground truth by class (K,), without crowds."""
        positions = self._true_ranks[1][~self.truth.is_crowd] - 1
        return np.bincount(positions, minlength=len(self.category_ids))

    @cached_property
    def found_positions(self) -> IntArray:
        """The class of each detection (N,), as its position in `category_ids`."""
        return self._found_ranks[1] - 1

    def positions_of(self, categories: Sequence[CocoRow]) -> list[int]:
        """Return the position of each category of the ground truth in `category_ids`."""
        positions: list[int] = np.searchsorted(self.category_ids, [category["id"] for category in categories]).tolist()
        return positions

    def image_and_class(self) -> tuple[IntArray, IntArray]:
        """Return a number for the image and the class of each box of the ground truth (G,) and each detection (N,)."""
        base = len(self.category_ids) + 1
        (true_images, true_classes), (found_images, found_classes) = self._true_ranks, self._found_ranks
        return true_images * base + true_classes, found_images * base + found_classes

    @cached_property
    def matched(self) -> tuple[BoolArray, BoolArray]:
        """Whether each detection (N,) counts, and whether it is right (N,), at `MATCH_IOU`.

        Detections that match a crowd count neither as right nor as wrong. Unlike in COCO's numbers, an image may have
        more than `MAX_DETECTIONS` detections of a class.
        """
        status = self._matches()["dt_status"]
        positions = np.fromiter(status, np.int64, len(status)) - 1
        is_right = np.zeros(len(self.found.scores), dtype=bool)
        is_right[positions] = np.fromiter((value == "tp" for value in status.values()), bool, len(status))
        counts = np.zeros(len(self.found.scores), dtype=bool)
        counts[positions] = True
        return counts, is_right

    @cached_property
    def counted_by_class(self) -> list[IntArray]:
        """Indices of the detections that count, in their order, for each of the K classes."""
        counted = np.flatnonzero(self.matched[0])
        positions = self.found_positions[counted]
        ordered = counted[np.argsort(positions, kind="stable")]
        ends = np.cumsum(np.bincount(positions, minlength=len(self.category_ids)))
        return np.split(ordered, ends[:-1])

    def confusion(self, is_kept: BoolArray) -> IntArray:
        """Return the confusion matrix (K + 1, K + 1) at `MATCH_IOU`; the last row and column are the background.

        Over all classes of an image, each detection takes the box with the highest IoU that none with a higher score
        has taken. Entry [i, j] counts boxes of class i that were found as class j; boxes that were not found are in
        the last column, detections without a box in the last row. Crowds, and detections that match one of their
        class, count nowhere.

        Args:
            is_kept: (N,) the detections to count.
        """
        counts, _ = self.matched
        evaluation = hotcoco.COCOeval(*self._data_sets(~self.truth.is_crowd, is_kept & counts), "bbox")
        matrix = evaluation.confusion_matrix(iou_thr=MATCH_IOU, max_det=max(1, int(is_kept.sum())))["matrix"]
        return np.asarray(matrix).astype(np.int64)

    def error_breakdown(self) -> dict[str, Any]:
        """Return hotcoco's TIDE breakdown at `MATCH_IOU` and `BACKGROUND_IOU`: `delta_ap`, `counts` and `ap_base`.

        Crowds, and detections that match one, are left out: hotcoco would take a detection that touches a crowd for a
        badly placed box.
        """
        evaluation = self._evaluation
        if self.truth.is_crowd.any():
            evaluation = self._evaluate(*self._data_sets(~self.truth.is_crowd, self.matched[0]))
        errors: dict[str, Any] = evaluation.tide_errors(pos_thr=MATCH_IOU, bg_thr=BACKGROUND_IOU)
        return errors

    def _matches(self) -> dict[str, Any]:
        _, numbers = np.unique(self.image_and_class()[1], return_counts=True)
        largest = int(numbers.max(initial=0))
        evaluation = self._evaluation
        if largest > MAX_DETECTIONS:
            evaluation = self._evaluate(*self._all_boxes, max_detections=largest)
        matches: dict[str, Any] = evaluation.image_diagnostics(iou_thr=MATCH_IOU, score_thr=NO_LABEL_ERRORS)
        return matches

    @cached_property
    def _accumulated(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        self._evaluation.accumulate()
        accumulated = self._evaluation.eval
        return accumulated["precision"], accumulated["recall"]

    @cached_property
    def _evaluation(self) -> Any:
        return self._evaluate(*self._all_boxes)

    @staticmethod
    def _evaluate(truth: Any, found: Any, max_detections: int | None = None) -> Any:
        """Return hotcoco's evaluation; with a limit of detections, only at `MATCH_IOU` and of all areas."""
        evaluation = hotcoco.COCOeval(truth, found, "bbox")
        if max_detections is not None:
            evaluation.params.iou_thrs = [MATCH_IOU]
            evaluation.params.area_rng = evaluation.params.area_rng[:1]
            evaluation.params.area_rng_lbl = evaluation.params.area_rng_lbl[:1]
            evaluation.params.max_dets = [max_detections]
        evaluation.evaluate()
        return evaluation

    @cached_property
    def _all_boxes(self) -> tuple[Any, Any]:
        return self._data_sets(np.ones(len(self.truth.areas), dtype=bool), np.ones(len(self.found.scores), dtype=bool))

    def _data_sets(self, is_true: BoolArray, is_found: BoolArray) -> tuple[Any, Any]:
        """Return the boxes of the ground truth (G,) and the detections (N,) that are chosen as hotcoco's data sets."""
        true_images, true_categories = self._true_ranks
        truth = hotcoco.COCO.from_arrays(
            [{"id": rank} for rank in range(1, len(self.image_ids) + 1)],
            [{"id": rank, "name": str(rank)} for rank in range(1, len(self.category_ids) + 1)],
            true_images[is_true],
            true_categories[is_true],
            self.truth.boxes_xywh[is_true],
            area=self.truth.areas[is_true],
            iscrowd=self.truth.is_crowd[is_true],
        )
        images, categories = self._found_ranks
        rows = np.column_stack([images, self.found.boxes_xywh, self.found.scores, categories])
        return truth, truth.load_res(rows[is_found].astype(np.float64))

    def _ranks(self, boxes: TrueBoxes | FoundBoxes) -> tuple[IntArray, IntArray]:
        """Return the ranks of the images and of the categories of boxes, from 1."""
        return _rank("image", boxes.image_ids, self.image_ids), _rank("category", boxes.category_ids, self.category_ids)


def _unique(what: str, ids: Sequence[int]) -> IntArray:
    """Return ids in ascending order."""
    values, counts = np.unique(np.array(ids, dtype=np.int64), return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"{what} ids {values[counts > 1][:5].tolist()} occur more than once; each may occur only once")
    return values


def _rank(what: str, ids: IntArray, known: IntArray) -> IntArray:
    positions = np.searchsorted(known, ids)
    is_unknown = ~np.isin(ids, known)
    if is_unknown.any():
        some = np.unique(ids[is_unknown])[:5].tolist()
        raise ValueError(f"boxes name the {what} ids {some}, which the ground truth does not have")
    return positions + 1
