"""Faster R-CNN: detection in two stages.

Ren, He, Girshick, Sun 2015, "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks", arXiv
1506.01497; on a pyramid as in Lin, Dollár, Girshick, He, Hariharan, Belongie 2017, "Feature Pyramid Networks for Object
Detection", arXiv 1612.03144.
Legend: B images, P proposals of one image, R proposals of all images, K classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from heads.base import BoxPrediction, BoxTarget, Features, Head, LevelSpec, LossTerms
from heads.box_coding import decode_deltas
from heads.box_head import DELTA_WEIGHTS, BoxHead
from heads.detection_spec import FasterRCNNHeadSpec
from heads.explainable import ChosenPrediction, FollowedScore, exclusive_log_odds, nearest_row
from heads.exportable import ObjectRows
from heads.graph_detections import MISSING, clip_boxes, drop_empty, require_plain_nms, rows_of_detections, suppress_all
from heads.matching import pad_targets
from heads.normalizer import Normalizer
from heads.pooling import rows_of
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

    finds_objects: ClassVar[bool] = True
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
        network = self.proposal_network
        found = network.propose(raw.proposals, network.anchors(raw.proposals), image_sizes_hw)
        proposals = rows_of([own.boxes_xyxy for own in found])
        scores, deltas = self._second_stage(raw.features, proposals)
        counts = [len(own.boxes_xyxy) for own in found]
        return _detections(
            self.spec,
            torch.split(scores, counts),
            lambda rows, labels: decode_deltas(deltas[rows, :, labels], proposals.boxes_xyxy[rows]),
            image_sizes_hw,
        )

    def _second_stage(self, features: Features, proposals: ObjectRows) -> tuple[Tensor, Tensor]:
        """Return scores (R, K) and deltas (R, 4, K) of the proposals of all images."""
        logits, deltas = self.box_head(features, proposals)
        return logits.softmax(dim=1)[:, :-1], deltas / deltas.new_tensor(DELTA_WEIGHTS)[:, None]

    def follow(self, raw: TwoStageOutputs, size_hw: tuple[int, int], chosen: ChosenPrediction) -> FollowedScore:
        """Return the log-odds of the score that the second stage gives the proposal that gave the box.

        The proposal stays where it is on the image as it is; the level is the one that it is pooled from.
        """
        box, found_label, label = chosen.box_xyxy, chosen.found_label, chosen.label
        assert box is not None
        assert found_label is not None
        assert label is not None
        network = self.proposal_network
        proposals = network.propose(raw.proposals, network.anchors(raw.proposals), [size_hw])[0].boxes_xyxy
        scores, deltas = self._second_stage(raw.features, rows_of([proposals]))
        boxes = clip_boxes_to_image(decode_deltas(deltas[:, :, found_label], proposals), size_hw)
        row = nearest_row(boxes, scores[:, found_label], box)
        proposal, pool = proposals[row : row + 1], self.box_head.roi_align

        def log_odds(raw: TwoStageOutputs) -> Tensor:
            num_images = next(iter(raw.features.values())).shape[0]
            logits, _ = self.box_head(raw.features, rows_of([proposal] * num_images))
            return exclusive_log_odds(logits, label)

        level = list(pool.specs)[int(pool.levels_of(proposal))]
        return FollowedScore(log_odds, "log_odds", level, is_local=True)

    def graph_outputs(
        self, raw: TwoStageOutputs, image_sizes_hw: Tensor, objects: ObjectRows | None = None
    ) -> dict[str, Tensor]:
        """Return `scores` (R, K) and `boxes` (R, K, 4) in xyxy, not clipped, of the proposals of all images, and their
        `images` (R,)."""
        boxes_BP4, is_used_BP = self.proposal_network.propose_all(raw.proposals, image_sizes_hw)
        images, places = is_used_BP.nonzero().unbind(1)
        proposals = ObjectRows(boxes_BP4[images, places], images)
        scores, boxes = self._scored_boxes(raw, proposals)
        return {"scores": scores, "boxes": boxes, "images": images}

    def _scored_boxes(self, raw: TwoStageOutputs, proposals: ObjectRows) -> tuple[Tensor, Tensor]:
        """Return scores (R, K) and boxes (R, K, 4) of the proposals of all images."""
        scores, deltas = self._second_stage(raw.features, proposals)
        return scores, decode_deltas(deltas.transpose(1, 2), proposals.boxes_xyxy[:, None])

    def graph_detections(self, raw: TwoStageOutputs, image_sizes_hw: Tensor) -> dict[str, Tensor]:
        spec = self.spec
        require_plain_nms(spec)
        boxes_BP4, is_used_BP = self.proposal_network.propose_all(raw.proposals, image_sizes_hw)
        images, places = is_used_BP.nonzero().unbind(1)
        scores_RK, boxes_RK4 = self._scored_boxes(raw, ObjectRows(boxes_BP4[images, places], images))
        num_images, num_places = is_used_BP.shape
        num_classes = scores_RK.shape[1]
        scores = scores_RK.new_full((num_images, num_places, num_classes), MISSING)
        scores[images, places] = torch.where(scores_RK > spec.score_threshold, scores_RK, MISSING)
        boxes = boxes_RK4.new_zeros((num_images, num_places, num_classes, 4))
        boxes[images, places] = boxes_RK4
        # A group of candidates is a class of an image, since every class has its own boxes.
        boxes = clip_boxes(boxes.flatten(1, 2), image_sizes_hw)
        scores = drop_empty(scores.flatten(1), boxes)
        of_classes = boxes.view(num_images, num_places, num_classes, 4).transpose(1, 2).flatten(0, 1)
        scores_GP = scores.view(num_images, num_places, num_classes).transpose(1, 2).flatten(0, 1)
        kept = suppress_all(of_classes, scores_GP[:, None], nms_iou=spec.nms_iou, limit=spec.max_detections)
        kept_BPK = kept.view(num_images, num_classes, num_places).transpose(1, 2)
        labels = torch.arange(num_classes, device=boxes.device).expand(num_images, num_places, -1)
        return rows_of_detections(boxes, kept_BPK.flatten(1), labels.flatten(1), max_detections=spec.max_detections)


def decode_proposals(
    outputs: Mapping[str, Tensor], spec: FasterRCNNHeadSpec, image_sizes_hw: Sequence[tuple[int, int]]
) -> list[BoxPrediction]:
    """Return the same as `FasterRCNNHead.decode`, given its `graph_outputs`."""
    boxes, images = outputs["boxes"], outputs["images"]
    counts = images.bincount(minlength=len(image_sizes_hw)).tolist()
    scores = torch.split(outputs["scores"], counts)
    return _detections(spec, scores, lambda rows, labels: boxes[rows, labels], image_sizes_hw)


def _detections(
    spec: FasterRCNNHeadSpec,
    scores_PK: Sequence[Tensor],
    boxes_of: Callable[[Tensor, Tensor], Tensor],
    image_sizes_hw: Sequence[tuple[int, int]],
) -> list[BoxPrediction]:
    """Return the detections of each image.

    Args:
        spec: the head's settings.
        scores_PK: of the proposals of each image.
        boxes_of: returns the boxes (M, 4) of proposals (M,), counted over all images, for classes (M,).
        image_sizes_hw: sizes before padding.
    """
    predictions, start = [], 0
    for own, size_hw in zip(scores_PK, image_sizes_hw, strict=True):
        scores, rows, labels = select_candidates(
            own, [len(own)], score_threshold=spec.score_threshold, per_level=own.numel()
        )
        boxes = boxes_of(start + rows, labels)
        start += len(own)
        predictions.append(select_detections(boxes, scores, labels, size_hw, spec))
    return predictions
