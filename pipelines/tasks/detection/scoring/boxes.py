"""Boxes of many images in columns, from rows of COCO's files.

Legend: N detections, G boxes of the ground truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.tasks.arrays import BoolArray, FloatArray, IntArray

CocoFile = dict[str, Any]
"""A COCO instances file: `images`, `categories` and `annotations`."""

CocoRow = dict[str, Any]
"""An annotation of such a file, or an element of a COCO results list."""


@dataclass(frozen=True)
class FoundBoxes:
    """Detections: image_ids (N,), category_ids (N,), boxes_xywh (N, 4) in pixels, scores (N,), in float64."""

    image_ids: IntArray
    category_ids: IntArray
    boxes_xywh: FloatArray
    scores: FloatArray

    @classmethod
    def from_rows(cls, rows: Sequence[CocoRow]) -> "FoundBoxes":
        """Return the detections of a COCO results list."""
        return cls(
            _ids(rows, "image_id"), _ids(rows, "category_id"), boxes_xywh_of(rows), _floats(r["score"] for r in rows)
        )


@dataclass(frozen=True)
class TrueBoxes:
    """Labels: image_ids (G,), category_ids (G,), boxes_xywh (G, 4) in pixels, areas (G,), is_crowd (G,)."""

    image_ids: IntArray
    category_ids: IntArray
    boxes_xywh: FloatArray
    areas: FloatArray
    is_crowd: BoolArray

    @classmethod
    def from_rows(cls, rows: Sequence[CocoRow]) -> "TrueBoxes":
        """Return the boxes of annotations; an area that is missing or not positive is replaced by width x height."""
        boxes = boxes_xywh_of(rows)
        areas = _floats(row.get("area") or 0.0 for row in rows)
        areas = np.where(areas > 0, areas, boxes[:, 2] * boxes[:, 3])
        is_crowd = np.array([bool(row.get("iscrowd")) for row in rows], dtype=bool)
        return cls(_ids(rows, "image_id"), _ids(rows, "category_id"), boxes, areas, is_crowd)


def _ids(rows: Sequence[CocoRow], field: str) -> NDArray[np.int64]:
    return np.array([row[field] for row in rows], dtype=np.int64)


def _floats(numbers: Any) -> NDArray[np.float64]:
    return np.fromiter(numbers, dtype=np.float64)


def boxes_xywh_of(rows: Sequence[CocoRow]) -> NDArray[np.float64]:
    """Return the boxes (N, 4) of rows."""
    return np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4)
