"""Differences between the predictions of two networks for the same image.

Legend: N detections of the first network, M of the second, L labeled boxes, D embedding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

from heads.base import BoxPrediction, ClassPrediction, EmbeddingPrediction, Prediction

SAME_BOX_PX = 1.0
"""Distance up to which two boxes of a class are the same detection."""
MIN_IOU = 0.5
"""Overlap from which a labeled box has the embedding of a detection."""


@dataclass
class Differences:
    """The largest differences over all images that were added.

    Attributes:
        scores, boxes_px, embeddings: of detections that both networks have, of classes and of images; None: there were
            none to compare.
        num_detections: of the first network.
        num_missing: detections of the first network that the second one does not have.
    """

    scores: float | None = None
    boxes_px: float | None = None
    embeddings: float | None = None
    num_detections: int = 0
    num_missing: int = 0

    def add(self, first: Prediction, second: Prediction) -> None:
        """Add the predictions of both networks for one image."""
        if isinstance(first, BoxPrediction) and isinstance(second, BoxPrediction):
            self._add_boxes(first, second)
        elif isinstance(first, ClassPrediction) and isinstance(second, ClassPrediction):
            self._see("scores", first.scores - second.scores)
        elif isinstance(first, EmbeddingPrediction) and isinstance(second, EmbeddingPrediction):
            # Embeddings of detections have the order of the detections, which may differ.
            is_of_image = first.embeddings.ndim == 1
            self._see("embeddings", first.embeddings - second.embeddings if is_of_image else first.embeddings[:0])

    def _add_boxes(self, first: BoxPrediction, second: BoxPrediction) -> None:
        self.num_detections += len(first.labels)
        if not len(first.labels) or not len(second.labels):
            self.num_missing += len(first.labels)
            return
        distances_NM = (first.boxes_xyxy[:, None] - second.boxes_xyxy[None]).abs().amax(dim=2)
        distances_NM = distances_NM.masked_fill(first.labels[:, None] != second.labels[None], torch.inf)
        nearest, rows = distances_NM.min(dim=1)
        is_same = nearest <= SAME_BOX_PX
        self.num_missing += int((~is_same).sum())
        self._see("boxes_px", nearest[is_same])
        self._see("scores", (first.scores - second.scores[rows])[is_same])

    def _see(self, name: str, differences: Tensor) -> None:
        if differences.numel():
            setattr(self, name, max(getattr(self, name) or 0.0, float(differences.abs().max())))


def embeddings_of_labels(found: Prediction, detected_xyxy: Tensor, labeled_xyxy: Tensor) -> EmbeddingPrediction:
    """Return the embeddings (L, D) of labeled boxes (L, 4), given those of detections (N, 4).

    Each labeled box has the embedding of the detection that overlaps it most, or zeros if none overlaps it enough.
    """
    assert isinstance(found, EmbeddingPrediction)
    embeddings = found.embeddings
    if not len(detected_xyxy) or not len(labeled_xyxy):
        return EmbeddingPrediction(embeddings.new_zeros(len(labeled_xyxy), embeddings.shape[1]))
    overlaps, nearest = box_iou(labeled_xyxy.float(), detected_xyxy.float()).max(dim=1)
    return EmbeddingPrediction(embeddings[nearest] * (overlaps >= MIN_IOU)[:, None])
