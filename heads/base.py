"""The contract of heads, and the types of targets and predictions.

Legend: B batch, N boxes, K classes, D embedding. Boxes are absolute pixels of the network's input, pixel 0 covers
[0, 1].
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

Features = Mapping[str, Tensor]
"""c3..c5 and p3..p7 by name, each (B, C, H, W)."""

LossTerms = dict[str, tuple[Tensor, Tensor]]
"""Sum and count of each term, both float32 scalars. The loss is sum / max(count, 1), after both are added up across
ranks, so a batch without positives keeps the sum of its negatives."""


class LevelSpec(Protocol):
    """Channels and geometry of one feature level: the center of cell i is at offset_px + (i + 0.5) * stride."""

    @property
    def channels(self) -> int: ...
    @property
    def stride(self) -> float: ...
    @property
    def offset_px(self) -> float: ...


@dataclass
class Target:
    """Labels of one image for one task.

    Subclasses for objects override all members: their objects then follow the geometry of the image, and are dropped if
    a crop leaves too little of them.
    """

    @property
    def object_boxes_xyxy(self) -> Tensor | None:
        """Boxes (N, 4) of the objects; None if the labels are about the whole image."""
        return None

    @property
    def object_is_crowd(self) -> Tensor:
        """Whether an object is a crowd region (N,) bool."""
        raise NotImplementedError

    def with_object_boxes(self, boxes_xyxy: Tensor) -> "Target":
        """Return the target with its objects moved to other boxes (N, 4)."""
        return self

    def with_objects(self, keep: Tensor) -> "Target":
        """Return the target with the objects for which `keep` (N,) is true."""
        return self


@dataclass
class BoxTarget(Target):
    """Objects of one image. An image that is labeled and has no objects has N = 0.

    Attributes:
        boxes_xyxy: (N, 4).
        labels: (N,) int64 in 0..K-1.
        is_crowd: (N,) bool; a crowd region is neither positive nor negative.
        identities: (N,) int64 for embeddings of objects, -1 if unknown.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    is_crowd: Tensor
    identities: Tensor

    @property
    def object_boxes_xyxy(self) -> Tensor:
        """The boxes (N, 4)."""
        return self.boxes_xyxy

    @property
    def object_is_crowd(self) -> Tensor:
        """Whether a box is a crowd region (N,) bool."""
        return self.is_crowd

    def with_object_boxes(self, boxes_xyxy: Tensor) -> "BoxTarget":
        """Return the target with other boxes (N, 4) and the same tensors in all other fields."""
        return replace(self, boxes_xyxy=boxes_xyxy)

    def with_objects(self, keep: Tensor) -> "BoxTarget":
        """Return the target with the boxes for which `keep` (N,) is true; all their fields stay with them."""
        return BoxTarget(self.boxes_xyxy[keep], self.labels[keep], self.is_crowd[keep], self.identities[keep])


@dataclass
class ClassTarget(Target):
    """Classes of one image: labels () int64 (multiclass), or (K,) float32 of zeros and ones (multilabel)."""

    labels: Tensor


@dataclass
class IdentityTarget(Target):
    """Identity of one image, () int64, -1 if unknown."""

    identity: Tensor


@dataclass
class Prediction:
    """Decoded output of a head for one image."""

    @property
    def object_boxes_xyxy(self) -> Tensor | None:
        """Boxes (N, 4) that other heads may use; None if the head does not detect objects."""
        return None


@dataclass
class BoxPrediction(Prediction):
    """Detections of one image, best first: boxes_xyxy (N, 4) clipped to the image, scores (N,), labels (N,)."""

    boxes_xyxy: Tensor
    scores: Tensor
    labels: Tensor

    @property
    def object_boxes_xyxy(self) -> Tensor:
        """The boxes (N, 4)."""
        return self.boxes_xyxy


@dataclass
class ClassPrediction(Prediction):
    """Scores (K,) of one image, which add up to 1 (multiclass) or are independent (multilabel)."""

    scores: Tensor


@dataclass
class EmbeddingPrediction(Prediction):
    """L2-normalized embeddings: (D,) of an image, or (N, D) of the boxes passed to `decode`."""

    embeddings: Tensor


class Head(nn.Module):
    """Layers, loss and decoding of one task.

    `loss` sees labeled images only: the caller drops the others from features, targets and sizes.
    """

    needs_boxes: ClassVar[bool] = False
    """True for a head that embeds the boxes of another task, which `decode` needs."""

    def forward(self, features: Features) -> Any:
        """Return raw outputs for B images; their type never depends on `self.training`."""
        raise NotImplementedError

    def loss(self, raw: Any, targets: Sequence[Any], image_sizes_hw: Sequence[tuple[int, int]]) -> LossTerms:
        """Return the loss terms of B labeled images, in float32. Targets may be empty.

        Args:
            raw: outputs of `forward` for these images.
            targets: B targets.
            image_sizes_hw: B sizes before padding, for heads that clip proposals.
        """
        raise NotImplementedError

    def idle_loss(self) -> LossTerms:
        """Return the loss terms of a batch without labeled images: exactly zero, and connected to every parameter.

        The keys are those of `loss`, so that all ranks add up the same terms. Losses that are coupled across ranks take
        part in their collective here.
        """
        zero = self.touch_parameters()
        return {term: (zero, torch.zeros((), device=zero.device)) for term in self.loss_terms}

    @property
    def loss_terms(self) -> tuple[str, ...]:
        """Names of the terms that `loss` returns, in their order."""
        raise NotImplementedError

    def touch_parameters(self) -> Tensor:
        """Return 0 as a float32 scalar whose gradient reaches every trainable parameter."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        device = next(self.parameters()).device
        return sum((p.flatten()[:1].float().sum() * 0.0 for p in parameters), torch.zeros((), device=device))

    def decode(
        self, raw: Any, image_sizes_hw: Sequence[tuple[int, int]], boxes_xyxy: Sequence[Tensor] | None = None
    ) -> list[Any]:
        """Return one prediction per image, float32, boxes clipped to `image_sizes_hw` (sizes before padding)."""
        raise NotImplementedError
