"""Detections of one image.

Legend: N boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipelines.base.records import Category
from pipelines.tasks.answer_files import AnswerJson
from pipelines.tasks.arrays import FloatArray, IntArray
from pipelines.tasks.tensors.boxes import ResizedImage, boxes_to_original, xyxy_to_xywh
from pipelines.tasks.tensors.outputs import TaskOutput, require_shape, to_numpy

if TYPE_CHECKING:
    from heads.base import BoxPrediction


@dataclass(frozen=True)
class Detections(TaskOutput):
    """Objects found in one image, best first: boxes_xyxy (N, 4) in original pixels, scores (N,), labels (N,), which
    are positions in the task's categories. Nothing found: (0, 4), (0,), (0,)."""

    boxes_xyxy: FloatArray
    scores: FloatArray
    labels: IntArray

    def __post_init__(self) -> None:
        require_shape("boxes_xyxy", self.boxes_xyxy, (None, 4))
        require_shape("scores", self.scores, (len(self.boxes_xyxy),))
        require_shape("labels", self.labels, (len(self.boxes_xyxy),))

    @classmethod
    def from_network(cls, prediction: BoxPrediction, image: ResizedImage) -> Detections:
        """Return what a head decoded, in pixels of the original image."""
        boxes = boxes_to_original(prediction.boxes_xyxy, image)
        return cls(to_numpy(boxes), to_numpy(prediction.scores), prediction.labels.cpu().numpy())

    def is_finite(self) -> bool:
        """Return whether every number is finite."""
        return bool(np.isfinite(self.boxes_xyxy).all() and np.isfinite(self.scores).all())

    def answer(self, categories: Sequence[Category]) -> AnswerJson:
        """Return the answer of the predict endpoint."""
        rows = zip(self.labels.tolist(), self.scores.tolist(), xyxy_to_xywh(self.boxes_xyxy).tolist(), strict=True)
        return {
            "detections": [
                {"category_id": categories[k].id, "label": categories[k].name, "score": score, "bbox_xywh": bbox_xywh}
                for k, score, bbox_xywh in rows
            ]
        }
