"""The region proposal network: boxes that may contain an object of any class.

Ren, He, Girshick, Sun 2015, "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks", arXiv
1506.01497, section 3.1; on a pyramid as in Lin et al. 2017, arXiv 1612.03144, section 4.1.
Legend: B images, N anchors of all levels, A anchors per cell, P proposals of one image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from heads.anchors import grid_anchors, shapes_of_levels
from heads.base import Features, LevelSpec
from heads.box_coding import decode_deltas, encode_deltas
from heads.dense import conv_tower, flatten_levels, output_conv, select_levels
from heads.detection_spec import FasterRCNNHeadSpec
from heads.fast_convolution import on_all_maps
from heads.graph_detections import (
    LOWEST_SCORE,
    best_of_levels,
    by_class,
    clip_boxes,
    drop_empty,
    suppress_all,
    take_rows,
)
from heads.losses import smooth_l1_loss
from heads.matching import PaddedTargets, match_anchors
from heads.normalizer import Normalizer
from heads.postprocess import find_survivors, select_candidates
from heads.sampling import sample


@dataclass
class Proposals:
    """Proposals of one image, best first: boxes_xyxy (P, 4) clipped to the image, anchor_idxs (P,) int64."""

    boxes_xyxy: Tensor
    anchor_idxs: Tensor


@dataclass
class ProposalOutputs:
    """Raw outputs for B images; rows are ordered by level, then by cell (row by row), then by anchor.

    Attributes:
        objectness: (B, N) logits.
        deltas: (B, N, 4), boxes relative to their anchors.
        sizes_hw: height and width of each level in cells.
    """

    objectness: Tensor
    deltas: Tensor
    sizes_hw: tuple[tuple[int, int], ...]


class ProposalNetwork(nn.Module):
    """Scores and moves the anchors of all levels, with shared weights.

    Anchors follow the measured strides and offsets. Those that reach over the border of the image are used like all
    others, as in the paper on pyramids.

    Args:
        spec: the settings of the head.
        level_specs: geometry of at least `spec.levels`.
    """

    shapes: Tensor
    """(L, A, 2): width and height in px of the anchors of a cell."""

    def __init__(self, spec: FasterRCNNHeadSpec, level_specs: Mapping[str, LevelSpec]) -> None:
        super().__init__()
        self.spec = spec
        self.level_specs = select_levels(level_specs, spec.levels)
        channels = self.level_specs[spec.levels[0]].channels
        self.anchors_per_cell = spec.anchors_per_cell
        self.tower = conv_tower(channels, spec.num_convs, spec.norm)
        self.objectness_output = output_conv(channels, self.anchors_per_cell, kernel=1)
        self.box_output = output_conv(channels, self.anchors_per_cell * 4, kernel=1)
        self.register_buffer("shapes", shapes_of_levels(spec, self.level_specs), persistent=False)

    def forward(self, features: Features) -> ProposalOutputs:
        maps = on_all_maps(self.tower, [features[level] for level in self.level_specs])
        return ProposalOutputs(
            objectness=flatten_levels([self.objectness_output(m) for m in maps], 1).squeeze(2),
            deltas=flatten_levels([self.box_output(m) for m in maps], 4),
            sizes_hw=tuple((m.shape[2], m.shape[3]) for m in maps),
        )

    def anchors(self, raw: ProposalOutputs) -> Tensor:
        """Return the anchors xyxy (N, 4) of the levels' sizes."""
        levels = zip(raw.sizes_hw, self.level_specs.values(), self.shapes, strict=True)
        offset = self.spec.cell_offset
        return torch.cat([grid_anchors(hw, spec, shapes, cell_offset=offset) for hw, spec, shapes in levels])

    @torch.no_grad()
    def propose(
        self, raw: ProposalOutputs, anchors: Tensor, image_sizes_hw: Sequence[tuple[int, int]]
    ) -> list[Proposals]:
        """Return the proposals of each image, without a gradient.

        Overlapping proposals are dropped within each level. Images do not affect each other.
        """
        spec = self.spec
        lengths = self._level_lengths(raw)
        ends = torch.tensor(lengths, device=anchors.device).cumsum(0)
        proposals = []
        for logits, deltas, size_hw in zip(raw.objectness.float(), raw.deltas, image_sizes_hw, strict=True):
            scores, rows, _ = select_candidates(
                logits[:, None], lengths, score_threshold=-torch.inf, per_level=spec.candidates_per_level
            )
            boxes, kept = find_survivors(
                decode_deltas(deltas[rows], anchors[rows]),
                scores,
                torch.searchsorted(ends, rows, right=True),
                size_hw,
                nms_iou=spec.proposal_nms_iou,
                limit=spec.max_proposals,
            )
            proposals.append(Proposals(boxes, rows[kept]))
        return proposals

    def propose_all(self, raw: ProposalOutputs, image_sizes_hw: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same as `propose` inside a graph: boxes (B, P, 4), and whether each is a proposal (B, P)."""
        spec = self.spec
        scores, rows = best_of_levels(raw.objectness.float(), self._level_lengths(raw), spec.candidates_per_level)
        boxes = decode_deltas(take_rows(raw.deltas, rows), self.anchors(raw)[rows])
        boxes = clip_boxes(boxes, image_sizes_hw)
        num_levels = len(self.level_specs)
        levels = torch.arange(num_levels, device=boxes.device).repeat_interleave(spec.candidates_per_level)
        kept = suppress_all(
            boxes,
            by_class(drop_empty(scores, boxes), levels, num_levels),
            nms_iou=spec.proposal_nms_iou,
            limit=spec.max_proposals,
        ).amax(dim=1)
        best, columns = kept.topk(min(spec.max_proposals, kept.shape[1]))
        return take_rows(boxes, columns), best > LOWEST_SCORE

    def _level_lengths(self, raw: ProposalOutputs) -> list[int]:
        return [height * width * self.anchors_per_cell for height, width in raw.sizes_hw]

    def loss(
        self,
        raw: ProposalOutputs,
        anchors: Tensor,
        targets: PaddedTargets,
        priorities: Tensor,
        normalizer: Normalizer,
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Return `objectness`, the binary cross-entropy of sampled anchors, and `proposals`, the smooth-L1 loss (beta
        1/9) of the deltas of the positive ones. The count of both is the number of sampled anchors. Both are totals of
        the normalizer.

        Args:
            raw: outputs for B images.
            anchors: of these outputs.
            targets: of these images.
            priorities: (N,), the anchors with the lowest ones are sampled.
            normalizer: adds up losses and counts.
        """
        spec = self.spec
        matched_BN = match_anchors(
            anchors,
            targets,
            positive_iou=spec.positive_iou,
            negative_iou=spec.negative_iou,
            crowd_iof=spec.crowd_iof,
        )
        order = priorities.argsort()
        samples = [
            sample(matched_N, order, num_samples=spec.anchor_samples, positive_share=spec.anchor_positive_share)
            for matched_N in matched_BN
        ]
        images = torch.cat([torch.full_like(rows, image) for image, rows in enumerate(samples)])
        rows = torch.cat(samples)
        matched = matched_BN[images, rows]
        is_positive = matched >= 0
        objectness = functional.binary_cross_entropy_with_logits(
            raw.objectness[images, rows].float(), is_positive.float(), reduction="none"
        )
        num_images = len(samples)
        count = normalizer.total(torch.ones_like(objectness), images, num_images)
        objectness_total = normalizer.total(objectness, images, num_images)
        images, rows, matched = images[is_positive], rows[is_positive], matched[is_positive]
        wanted = encode_deltas(targets.boxes_xyxy[images, matched], anchors[rows])
        box_losses = smooth_l1_loss(raw.deltas[images, rows], wanted)
        return {
            "objectness": (objectness_total, count),
            "proposals": (normalizer.total(box_losses, images, num_images), count),
        }
