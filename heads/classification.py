"""Heads that classify whole images with pooled features, dropout and a linear layer.

Legend: B images, K classes.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from heads.base import ClassPrediction, ClassTarget, Features, Head, LevelSpec, LossTerms, MixedClassTarget
from heads.explainable import ChosenPrediction, FollowedScore, exclusive_log_odds
from heads.exportable import ObjectRows
from heads.pooling import pool_maps
from heads.spec import ClassificationHeadSpec


class ClassificationHead(Head):
    """Base of both classification heads, with their layers.

    Args:
        spec: the head's settings; for `label_smoothing` see the subclass.
        level_specs: geometry of at least `spec.level`.
        num_classes: K.
        class_weights: (K,) positive, see the subclass; by default 1 for every class.

    Raises:
        ValueError: the level is unknown, or the weights do not fit the classes.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        spec: ClassificationHeadSpec,
        *,
        level_specs: Mapping[str, LevelSpec],
        num_classes: int,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        if spec.level not in level_specs:
            raise ValueError(f"level: got {spec.level!r}; choose from {sorted(level_specs)}")
        if class_weights is not None and (class_weights.shape != (num_classes,) or bool((class_weights <= 0).any())):
            raise ValueError(f"class_weights: got {class_weights.tolist()}; give {num_classes} positive numbers")
        self.spec = spec
        width = level_specs[spec.level].channels * (2 if spec.pool == "avgmax" else 1)
        self.dropout = nn.Dropout(spec.dropout)
        self.linear = nn.Linear(width, num_classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)
        # The weights are computed from the training labels in every run, so the state does not contain them.
        weights = None if class_weights is None else class_weights.float()
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, features: Features) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.linear(self.dropout(pool_maps(features[self.spec.level], self.spec.pool)))
        return logits

    def scores(self, raw: Tensor) -> Tensor:
        """Return the scores (B, K) in 0..1, float32."""
        raise NotImplementedError

    def log_odds(self, raw: Tensor, label: int) -> Tensor:
        """Return log(score / (1 - score)) (B,) of one class, float32."""
        raise NotImplementedError

    def follow(self, raw: Tensor, size_hw: tuple[int, int], chosen: ChosenPrediction) -> FollowedScore:
        """Return the log-odds of the score of a class, which is computed from the whole map of one level."""
        label = chosen.label
        assert label is not None
        self.log_odds(raw, label)  # fails here if the score is constant
        return FollowedScore(lambda raw: self.log_odds(raw, label), "log_odds", self.spec.level, is_local=False)

    def decode(
        self, raw: Tensor, image_sizes_hw: Sequence[tuple[int, int]], boxes_xyxy: Sequence[Tensor] | None = None
    ) -> list[ClassPrediction]:
        return decode_scores({"scores": self.scores(raw)}, self.spec, image_sizes_hw)

    def graph_outputs(
        self, raw: Tensor, image_sizes_hw: Tensor, objects: ObjectRows | None = None
    ) -> dict[str, Tensor]:
        """Return the `scores` (B, K)."""
        return {"scores": self.scores(raw)}


def decode_scores(
    outputs: Mapping[str, Tensor], spec: ClassificationHeadSpec, image_sizes_hw: Sequence[tuple[int, int]]
) -> list[ClassPrediction]:
    """Return one prediction per image, given the `graph_outputs` of the head."""
    return [ClassPrediction(scores, is_exclusive=not spec.is_multilabel) for scores in outputs["scores"]]


class MulticlassHead(ClassificationHead):
    """Exactly one class per image: softmax and cross-entropy.

    The count of `cross_entropy` is the number of images; with `class_weights` the loss of each image is multiplied by
    the weight of its own class, and the count is the sum of these weights. Label smoothing gives every class
    label_smoothing / K of the target (Szegedy et al. 2016, arXiv 1512.00567, section 7). Deviation from torch, which
    multiplies these shares by the weights of their classes: they would exceed the image's own class where another one
    is rare. The cross-entropy with a mixed target, and its part of the count, are the mean over its labels, by their
    weights (Zhang et al. 2018, arXiv 1710.09412, section 2).
    """

    @property
    def loss_terms(self) -> tuple[str, ...]:
        return ("cross_entropy",)

    def loss(self, raw: Tensor, targets: Sequence[ClassTarget], image_sizes_hw: Sequence[tuple[int, int]]) -> LossTerms:
        if any(isinstance(target, MixedClassTarget) for target in targets):
            return self._mixed_loss(raw, targets)
        labels = torch.stack([target.labels for target in targets])
        weights = self.class_weights
        return self._terms(
            raw, labels, raw.new_ones(len(targets), dtype=torch.float32) if weights is None else weights[labels]
        )

    def _mixed_loss(self, raw: Tensor, targets: Sequence[ClassTarget]) -> LossTerms:
        truth_BK = torch.stack([target.probabilities(raw.shape[1]) for target in targets])
        weights = self.class_weights
        return self._terms(raw, truth_BK, torch.ones_like(truth_BK[:, 0]) if weights is None else truth_BK @ weights)

    def _terms(self, raw: Tensor, truth: Tensor, counts_B: Tensor) -> LossTerms:
        """Return the loss, given labels (B,) or probabilities (B, K), and each image's part of the count."""
        logits, smoothing = raw.float(), self.spec.label_smoothing
        if self.class_weights is None:
            total = functional.cross_entropy(logits, truth, label_smoothing=smoothing, reduction="sum")
        else:
            own_classes = functional.cross_entropy(logits, truth, weight=self.class_weights, reduction="sum")
            all_classes = -(counts_B * logits.log_softmax(dim=1).mean(dim=1)).sum()
            total = (1 - smoothing) * own_classes + smoothing * all_classes
        return {"cross_entropy": (total, counts_B.sum())}

    def scores(self, raw: Tensor) -> Tensor:
        return raw.float().softmax(dim=1)

    def log_odds(self, raw: Tensor, label: int) -> Tensor:
        return exclusive_log_odds(raw, label)


class MultilabelHead(ClassificationHead):
    """Any number of classes per image: a sigmoid and binary cross-entropy for each.

    The sum of `bce` adds up the mean over classes of each image; its count is the number of images. `class_weights`
    multiply the losses of positives of each class (torch's `pos_weight`): missing a rare class costs more, but a false
    alarm does not. Label smoothing moves the targets from 1 and 0 to 1 - label_smoothing / 2 and label_smoothing / 2;
    weights multiply the whole loss of a positive, and nothing of a negative. The loss with a mixed target is the mean
    of both, by its share.
    """

    @property
    def loss_terms(self) -> tuple[str, ...]:
        return ("bce",)

    def loss(self, raw: Tensor, targets: Sequence[ClassTarget], image_sizes_hw: Sequence[tuple[int, int]]) -> LossTerms:
        labels = torch.stack([target.labels for target in targets]).float()
        right, wrong = (
            functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=self.class_weights, reduction="none")
            for logits in (raw.float(), -raw.float())
        )
        flipped = self.spec.label_smoothing / 2
        losses = (1 - flipped) * right + flipped * wrong
        return {"bce": (losses.mean(dim=1).sum(), torch.tensor(float(len(labels)), device=labels.device))}

    def scores(self, raw: Tensor) -> Tensor:
        return raw.float().sigmoid()

    def log_odds(self, raw: Tensor, label: int) -> Tensor:
        return raw[:, label].float()
