"""The contract of heads, and the types of targets and predictions.

Legend: B batch, N boxes, K classes, D embedding. Boxes are absolute pixels of the network's input, pixel 0 covers
[0, 1].
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from heads.explainable import ExplainableHead
from heads.exportable import ExportableHead

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

    def accepts_objects_of(self, other: Any) -> bool:
        """Return whether the labels stay complete if objects of another image are pasted into this one.

        Args:
            other: the target of the other image for the same task; None: it is not labeled.
        """
        return False

    def with_objects_of(self, other: Any) -> "Target":
        """Return the target with the objects of another target of the same task, which are pasted into the image."""
        return self

    def combined(self, others: Sequence[Any], shares: Sequence[float], *, side_by_side: bool) -> "Target | None":
        """Return the target of a picture that shows this image and others; None if it is unlabeled.

        Args:
            others: targets of the other images for the same task.
            shares: of this image and the others in the picture; they add up to 1.
            side_by_side: whether the images are beside each other; otherwise they are laid over each other.
        """
        return None


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

    def accepts_objects_of(self, other: "BoxTarget | None") -> bool:
        """Return whether the objects of the other image are labeled."""
        return other is not None

    def with_objects_of(self, other: "BoxTarget") -> "BoxTarget":
        """Return the target with all boxes of both; its own are first."""
        return BoxTarget(
            torch.cat([self.boxes_xyxy, other.boxes_xyxy]),
            torch.cat([self.labels, other.labels]),
            torch.cat([self.is_crowd, other.is_crowd]),
            torch.cat([self.identities, other.identities]),
        )

    def combined(self, others: Sequence["BoxTarget"], shares: Sequence[float], *, side_by_side: bool) -> "BoxTarget":
        """Return the boxes of all images, whatever their shares are."""
        return reduce(BoxTarget.with_objects_of, others, self)


@dataclass
class ClassTarget(Target):
    """Classes of one image: labels () int64 (multiclass), or (K,) float32 in [0, 1] (multilabel)."""

    labels: Tensor

    @property
    def label_weights(self) -> dict[int, float]:
        """The weight of each label of a multiclass target; they add up to 1."""
        return {int(self.labels): 1.0}

    def probabilities(self, num_classes: int) -> Tensor:
        """Return the weight (K,) float32 of each class of a multiclass target."""
        return functional.one_hot(self.labels, num_classes).float()

    def accepts_objects_of(self, other: "ClassTarget | None") -> bool:
        """Return whether the other image has no class that this one lacks."""
        if other is None:
            return False
        if self.labels.is_floating_point():
            return bool((other.labels <= self.labels).all())
        return other.label_weights.keys() <= self.label_weights.keys()

    def combined(
        self, others: Sequence["ClassTarget"], shares: Sequence[float], *, side_by_side: bool
    ) -> "ClassTarget":
        """Return the labels weighted by the shares; multilabel images side by side have the classes of all."""
        targets = [self, *others]
        if self.labels.is_floating_point():
            labels = torch.stack([target.labels for target in targets])
            weights = labels.new_tensor(shares)
            return ClassTarget(labels.amax(dim=0) if side_by_side else (weights @ labels).clamp(max=1))
        mixed: dict[int, float] = {}
        for target, share in zip(targets, shares, strict=True):
            for label, weight in target.label_weights.items():
                mixed[label] = mixed.get(label, 0.0) + share * weight
        if len(mixed) == 1:
            return ClassTarget(torch.tensor(next(iter(mixed))))
        return MixedClassTarget(torch.tensor(list(mixed)), torch.tensor(list(mixed.values())))


@dataclass
class MixedClassTarget(ClassTarget):
    """Classes of a picture made of several multiclass images: different labels (P,) int64 with weights (P,).

    The weights are positive and add up to 1: each is the share of the images of a class.
    """

    weights: Tensor

    @property
    def label_weights(self) -> dict[int, float]:
        """The weight of each label."""
        return dict(zip(self.labels.tolist(), self.weights.tolist(), strict=True))

    def probabilities(self, num_classes: int) -> Tensor:
        """Return the weight (K,) float32 of each class."""
        return self.weights.new_zeros(num_classes).index_add(0, self.labels, self.weights)


@dataclass
class IdentityTarget(Target):
    """Identity of one image, () int64, -1 if unknown. A picture of several images has none."""

    identity: Tensor

    def accepts_objects_of(self, other: "IdentityTarget | None") -> bool:
        """Return true: pasted objects do not change the identity of the image."""
        return True


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
    """Scores (K,) of one image, which add up to 1 (`is_exclusive`: multiclass) or are independent (multilabel)."""

    scores: Tensor
    is_exclusive: bool = True


@dataclass
class EmbeddingPrediction(Prediction):
    """L2-normalized embeddings: (D,) of an image, or (N, D) of the boxes passed to `decode`."""

    embeddings: Tensor


class Head(ExportableHead, ExplainableHead):
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
