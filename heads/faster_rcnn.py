"""Faster R-CNN: detection in two stages.

Ren, He, Girshick, Sun 2015, "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks", arXiv
1506.01497; on a pyramid as in Lin, Dollár, Girshick, He, Hariharan, Belongie 2017, "Feature Pyramid Networks for Object
Detection", arXiv 1612.03144.
Legend: B images, P proposals of one image, R proposals of all images, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heads.base import BoxPrediction, BoxTarget, Features, Head, LevelSpec, LossTerms
from heads.box_coding import decode_deltas
from heads.box_head import DELTA_WEIGHTS, BoxHead
from heads.detection_spec import FasterRCNNHeadSpec
from heads.matching import pad_targets
from heads.normalizer import Normalizer
from heads.postprocess import select_candidates, select_detections
from heads.proposals import ProposalNetwork, ProposalOutputs
from heads.sampling import random_priorities


@dataclass
class TwoStageOutputs:
    """Raw outputs: those of the proposal network, and the levels that proposals are pooled from."""

    proposals: ProposalOutputs
    features: Features


class FasterRCNNHead(Head):
    """A region proposal network, and a second stage that classifies proposals and refines their boxes.

    Losses are those of `heads.proposals` and `heads.box_head`. Both learn from a random sample of each image, which
    depends on the image and on `num_batches` alone: not on the rank, on other images, or on torch's generators. The
    number is counted up by every training step on every rank, and is part of the state, so that a resumed run draws the
    same samples.

    Proposals have no gradient, and are the same in training and prediction. The second stage runs in `loss` and
    `decode`, since it needs the sizes of the images and, in training, the target boxes.

    Args:
        spec: the head's settings.
        level_specs: geometry of at least `spec.levels` and `spec.roi_levels`.
        num_classes: K, without background.
    """

    spec: FasterRCNNHeadSpec
    num_batches: Tensor
    """() int64: number of batches that the head was trained with."""

    def __init__(self, spec: FasterRCNNHeadSpec, *, level_specs: Mapping[str, LevelSpec], num_classes: int) -> None:
        super().__init__()
        self.spec = spec
        self.proposal_network = ProposalNetwork(spec, level_specs)
        self.box_head = BoxHead(spec, level_specs, num_classes)
        self.normalizer = Normalizer(spec.normalizer, len(self.loss_terms))
        self.register_buffer("num_batches", torch.tensor(0))

    @property
    def loss_terms(self) -> tuple[str, ...]:
        return ("objectness", "proposals", "classification", "boxes")

    def forward(self, features: Features) -> TwoStageOutputs:
        levels: dict[str, Tensor] = {level: features[level] for level in self.spec.roi_levels}
        return TwoStageOutputs(self.proposal_network(features), levels)

    def loss(
        self, raw: TwoStageOutputs, targets: Sequence[BoxTarget], image_sizes_hw: Sequence[tuple[int, int]]
    ) -> LossTerms:
        seed = self._next_seed()
        anchors = self.proposal_network.anchors(raw.proposals)
        proposals = self.proposal_network.propose(raw.proposals, anchors, image_sizes_hw)
        priorities = random_priorities(len(anchors), 2 * seed, anchors.device)
        samples = [
            self.box_head.sample(own, target, priorities, 2 * seed + 1)
            for own, target in zip(proposals, targets, strict=True)
        ]
        return self.normalizer.terms(
            {
                **self.proposal_network.loss(raw.proposals, anchors, pad_targets(targets), priorities, self.normalizer),
                **self.box_head.loss(raw.features, samples, self.normalizer),
            },
            len(targets),
        )

    def idle_loss(self) -> LossTerms:
        self._next_seed()
        self.normalizer.idle()
        return super().idle_loss()

    def _next_seed(self) -> int:
        seed = int(self.num_batches)
        if self.training:
            self.num_batches += 1
        return seed

    def decode(
        self,
        raw: TwoStageOutputs,
        image_sizes_hw: Sequence[tuple[int, int]],
        boxes_xyxy: Sequence[Tensor] | None = None,
    ) -> list[BoxPrediction]:
        """Return the detections of each image, best first, clipped to the image; images do not affect each other."""
        spec, network = self.spec, self.proposal_network
        found = network.propose(raw.proposals, network.anchors(raw.proposals), image_sizes_hw)
        proposals = [own.boxes_xyxy for own in found]
        counts = [len(own) for own in proposals]
        logits, deltas = self.box_head(raw.features, proposals)
        scores_RK = logits.softmax(dim=1)[:, :-1]
        deltas = deltas / deltas.new_tensor(DELTA_WEIGHTS)[:, None]
        predictions = []
        for scores_PK, deltas_P4K, own, size_hw in zip(
            scores_RK.split(counts), deltas.split(counts), proposals, image_sizes_hw, strict=True
        ):
            scores, rows, labels = select_candidates(
                scores_PK, [len(own)], score_threshold=spec.score_threshold, per_level=scores_PK.numel()
            )
            boxes = decode_deltas(deltas_P4K[rows, :, labels], own[rows])
            predictions.append(select_detections(boxes, scores, labels, size_hw, spec))
        return predictions
