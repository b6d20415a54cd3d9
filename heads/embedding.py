"""Heads that embed whole images or objects: vectors are close where identities are equal.

Legend: B images, N rows (images or boxes) of this process, D embedding.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from heads.base import BoxTarget, EmbeddingPrediction, Features, Head, IdentityTarget, LevelSpec, LossTerms
from heads.explainable import ChosenPrediction, FollowedScore
from heads.exportable import ObjectRows
from heads.gather import gather_rows
from heads.metric_losses import can_use, create_metric_loss
from heads.norm import group_norm
from heads.pooling import PyramidRoIAlign, pool_maps, rows_of
from heads.spec import EmbeddingHeadSpec


class EmbeddingHead(Head):
    """Base of both embedding heads: the loss over the joint batch of all ranks.

    The only term has the loss's name. It is (loss, 1), or (0, 0) where the loss is undefined for the batch: without
    any known identity, without a positive and a negative pair (see `heads.metric_losses`), or without a triplet that
    counts. Rows of identity -1 are skipped.

    Every rank calls `loss` or `idle_loss` of this head exactly once per step, because both gather across ranks.
    """

    def __init__(self, spec: EmbeddingHeadSpec, num_identities: int) -> None:
        super().__init__()
        self.spec = spec
        self.metric_loss = create_metric_loss(spec.loss, num_identities, spec.dim, spec.miner)

    @property
    def loss_terms(self) -> tuple[str, ...]:
        return (self.spec.loss,)

    def idle_loss(self) -> LossTerms:
        """Return (0, 0), and take part in the gather with zero rows."""
        device = next(self.parameters()).device
        nothing = torch.zeros((0, self.spec.dim), device=device), torch.zeros((0,), dtype=torch.int64, device=device)
        gather_rows(*nothing, has_loss=False)
        return super().idle_loss()

    def joint_loss(self, embeddings: Tensor, identities: Tensor) -> LossTerms:
        """Return the loss over the rows of all ranks, given this rank's rows (N, D), float32, and identities (N,)."""
        joint, joint_identities = gather_rows(embeddings, identities, has_loss=True)
        value = self._joint_value(joint, joint_identities) if can_use(self.spec.loss, joint_identities) else None
        if value is None:
            zero = embeddings.sum() * 0.0 + self.touch_parameters()
            return {self.spec.loss: (zero, torch.zeros((), device=embeddings.device))}
        return {self.spec.loss: (value, torch.ones((), device=embeddings.device))}

    def _joint_value(self, embeddings: Tensor, identities: Tensor) -> Tensor | None:
        with torch.autocast(embeddings.device.type, enabled=False):
            value: Tensor | None = self.metric_loss(embeddings, identities)
        return value


class ImageEmbeddingHead(EmbeddingHead):
    """Embedding of an image: mean and maximum of c5, two linear layers with a ReLU between them, unit length."""

    def __init__(self, spec: EmbeddingHeadSpec, *, level_specs: Mapping[str, LevelSpec], num_classes: int) -> None:
        super().__init__(spec, num_classes)
        self.trunk = nn.Sequential(
            nn.Linear(2 * level_specs["c5"].channels, 2 * spec.dim),
            nn.ReLU(inplace=True),
            nn.Linear(2 * spec.dim, spec.dim),
        )

    def forward(self, features: Features) -> Tensor:
        """Return embeddings (B, D), float32."""
        return functional.normalize(self.trunk(pool_maps(features["c5"], "avgmax")).float(), dim=1)

    def loss(
        self, raw: Tensor, targets: Sequence[IdentityTarget], image_sizes_hw: Sequence[tuple[int, int]]
    ) -> LossTerms:
        identities = torch.stack([target.identity for target in targets])
        is_known = identities >= 0
        return self.joint_loss(raw[is_known], identities[is_known])

    def decode(
        self, raw: Tensor, image_sizes_hw: Sequence[tuple[int, int]], boxes_xyxy: Sequence[Tensor] | None = None
    ) -> list[EmbeddingPrediction]:
        return [EmbeddingPrediction(embedding) for embedding in raw]

    def follow(self, raw: Tensor, size_hw: tuple[int, int], chosen: ChosenPrediction) -> FollowedScore:
        """Return the similarity to the embedding of the reference image, or of the image as it is."""
        own = raw[0]
        other = own if chosen.reference is None else chosen.reference.embeddings
        return FollowedScore(
            lambda raw: raw @ other, "similarity", "c5", is_local=False, is_at_maximum=chosen.reference is None
        )

    def graph_outputs(
        self, raw: Tensor, image_sizes_hw: Tensor, objects: ObjectRows | None = None
    ) -> dict[str, Tensor]:
        """Return the `embeddings` (B, D)."""
        return {"embeddings": raw}


class ObjectEmbeddingHead(EmbeddingHead):
    """Embedding of a box: 7x7 RoIAlign on p3 to p5, a 3x3 convolution with GroupNorm and ReLU, mean and maximum, a
    linear layer, unit length.

    Training uses the target boxes, except crowd boxes and boxes of unknown identity.
    """

    needs_boxes: ClassVar[bool] = True
    levels: ClassVar[tuple[str, ...]] = ("p3", "p4", "p5")

    def __init__(self, spec: EmbeddingHeadSpec, *, level_specs: Mapping[str, LevelSpec], num_classes: int) -> None:
        super().__init__(spec, num_classes)
        channels = level_specs["p3"].channels
        self.roi_align = PyramidRoIAlign({level: level_specs[level] for level in self.levels})
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            group_norm(channels),
            nn.ReLU(inplace=True),
        )
        self.linear = nn.Linear(2 * channels, spec.dim)

    def forward(self, features: Features) -> dict[str, Tensor]:
        """Return the levels that boxes are pooled from."""
        return {level: features[level] for level in self.levels}

    def embed(self, raw: Features, objects: ObjectRows) -> Tensor:
        """Return embeddings (N, D), float32, of the boxes of all images."""
        pooled = self.trunk(self.roi_align(raw, objects))
        return functional.normalize(self.linear(pool_maps(pooled, "avgmax")).float(), dim=1)

    def loss(self, raw: Features, targets: Sequence[BoxTarget], image_sizes_hw: Sequence[tuple[int, int]]) -> LossTerms:
        is_used = [~target.is_crowd & (target.identities >= 0) for target in targets]
        boxes = [target.boxes_xyxy[used] for target, used in zip(targets, is_used, strict=True)]
        identities = torch.cat([target.identities[used] for target, used in zip(targets, is_used, strict=True)])
        return self.joint_loss(self.embed(raw, rows_of(boxes)), identities)

    def decode(
        self,
        raw: Features,
        image_sizes_hw: Sequence[tuple[int, int]],
        boxes_xyxy: Sequence[Tensor] | None = None,
    ) -> list[EmbeddingPrediction]:
        """Return the embeddings (N_i, D) of the boxes of each image, in their order.

        Raises:
            ValueError: `boxes_xyxy` is None.
        """
        if boxes_xyxy is None:
            raise ValueError("boxes_xyxy: got None; a head that embeds objects needs one tensor (N, 4) per image")
        counts = [boxes.shape[0] for boxes in boxes_xyxy]
        return [EmbeddingPrediction(rows) for rows in torch.split(self.embed(raw, rows_of(boxes_xyxy)), counts)]

    def follow(self, raw: Features, size_hw: tuple[int, int], chosen: ChosenPrediction) -> FollowedScore:
        """Return the similarity of the object in the box to itself, or to the most similar object of the reference."""
        assert chosen.box_xyxy is not None
        box = chosen.box_xyxy[None]
        own = self.embed(raw, rows_of([box]))[0]
        other = own if chosen.reference is None else _most_similar(own, chosen.reference.embeddings)

        def similarity(raw: Features) -> Tensor:
            num_images = next(iter(raw.values())).shape[0]
            return self.embed(raw, rows_of([box] * num_images)) @ other

        level = self.levels[int(self.roi_align.levels_of(box))]
        return FollowedScore(similarity, "similarity", level, is_local=True, is_at_maximum=chosen.reference is None)

    def graph_outputs(
        self, raw: Features, image_sizes_hw: Tensor, objects: ObjectRows | None = None
    ) -> dict[str, Tensor]:
        """Return the `embeddings` (R, D) of the objects, and their `images` (R,).

        Raises:
            ValueError: `objects` is None.
        """
        if objects is None:
            raise ValueError("objects: got None; a head that embeds objects needs the rows of a detection task")
        # ONNX Runtime cannot reshape zero rows in GroupNorm, so there is one more row than objects.
        boxes = torch.cat((objects.boxes_xyxy, objects.boxes_xyxy.new_ones(1, 4)))
        images = torch.cat((objects.images, objects.images.new_zeros(1)))
        return {"embeddings": self.embed(raw, ObjectRows(boxes, images))[:-1], "images": objects.images}


def _most_similar(own_D: Tensor, others_ND: Tensor) -> Tensor:
    if not len(others_ND):
        raise ValueError("the model finds no object in the reference image; choose an image with one")
    return others_ND[(others_ND @ own_D).argmax()]


def decode_embeddings(
    outputs: Mapping[str, Tensor], spec: EmbeddingHeadSpec, image_sizes_hw: Sequence[tuple[int, int]]
) -> list[EmbeddingPrediction]:
    """Return the same as the `decode` of the head, given its `graph_outputs`."""
    embeddings = outputs["embeddings"]
    if spec.of == "image":
        return [EmbeddingPrediction(embedding) for embedding in embeddings]
    return [EmbeddingPrediction(embeddings[outputs["images"] == image]) for image in range(len(image_sizes_hw))]


def create_embedding_head(
    spec: EmbeddingHeadSpec, *, level_specs: Mapping[str, LevelSpec], num_classes: int
) -> EmbeddingHead:
    """Return the head that embeds images or objects, depending on `spec.of`."""
    head = ImageEmbeddingHead if spec.of == "image" else ObjectEmbeddingHead
    return head(spec, level_specs=level_specs, num_classes=num_classes)
