"""Embeddings of one image or of the objects in it.

Legend: N objects, D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.base.records import BoxLabel
from pipelines.tasks.answer_files import AnswerJson
from pipelines.tasks.arrays import FloatArray, IntArray
from pipelines.tasks.tensors.boxes import xyxy_to_xywh
from pipelines.tasks.tensors.outputs import ScoredBoxes, TaskOutput, require_shape, to_numpy

if TYPE_CHECKING:
    from heads.base import EmbeddingPrediction


@dataclass(frozen=True)
class Embeddings(TaskOutput):
    """Embeddings (N, D) of one image (N = 1, no boxes) or of N objects in it.

    Attributes:
        boxes_xyxy: (N, 4) in original pixels.
        annotation_ids: (N,) where the boxes are those of the labels; None where a detector found them.
        identities: (N,) as the labels name them, '' where unknown; None where they are looked up in the labels.
        scores: (N,) of the detector that found the boxes.
    """

    embeddings: FloatArray
    boxes_xyxy: FloatArray | None = None
    annotation_ids: IntArray | None = None
    identities: NDArray[np.str_] | None = None
    scores: FloatArray | None = None

    def __post_init__(self) -> None:
        require_shape("embeddings", self.embeddings, (None, None))
        count = len(self.embeddings)
        if self.boxes_xyxy is not None:
            require_shape("boxes_xyxy", self.boxes_xyxy, (count, 4))
        if self.annotation_ids is not None:
            require_shape("annotation_ids", self.annotation_ids, (count,))
        if self.identities is not None:
            require_shape("identities", self.identities, (count,))
        if self.scores is not None:
            require_shape("scores", self.scores, (count,))

    @classmethod
    def from_network(cls, prediction: EmbeddingPrediction) -> Embeddings:
        """Return what a head decoded."""
        return cls(np.atleast_2d(to_numpy(prediction.embeddings)))

    def with_boxes(self, boxes: ScoredBoxes) -> Embeddings:
        """Return the embeddings with the boxes that a detector found and that were embedded, in their order."""
        return replace(self, boxes_xyxy=boxes.boxes_xyxy, scores=boxes.scores)

    def with_labels(self, labels: Sequence[BoxLabel]) -> Embeddings:
        """Return the embeddings with the labeled boxes that were embedded, in their order."""
        boxes_xywh = np.array([label.bbox_xywh for label in labels], dtype=np.float64).reshape(-1, 4)
        return replace(
            self,
            boxes_xyxy=np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1),
            annotation_ids=np.array([label.annotation_id for label in labels], dtype=np.int64),
            identities=np.array([label.identity or "" for label in labels], dtype=np.str_),
        )

    def is_finite(self) -> bool:
        """Return whether every number of the embeddings is finite."""
        return bool(np.isfinite(self.embeddings).all())

    def answer(self) -> AnswerJson:
        """Return the answer of the predict endpoint: the vector of the image, or those of the boxes that were found."""
        vectors = self.embeddings.tolist()
        if self.boxes_xyxy is None or self.scores is None:
            (vector,) = vectors
            return {"embedding": vector}
        rows = zip(xyxy_to_xywh(self.boxes_xyxy).tolist(), self.scores.tolist(), vectors, strict=True)
        return {
            "embeddings": [
                {"bbox_xywh": bbox_xywh, "score": score, "embedding": vector} for bbox_xywh, score, vector in rows
            ]
        }
