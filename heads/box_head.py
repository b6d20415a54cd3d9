"""The second stage of Faster R-CNN: the class and the exact box of each proposal.

Girshick 2015, "Fast R-CNN", arXiv 1504.08083; with RoIAlign on a pyramid as in Lin et al. 2017, arXiv 1612.03144,
section 4.2.
Legend: B images, P proposals of one image, R proposals of all images, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from heads.base import BoxTarget, Features, LevelSpec
from heads.box_coding import encode_deltas
from heads.dense import select_levels
from heads.detection_spec import FasterRCNNHeadSpec
from heads.exportable import ObjectRows
from heads.losses import NEGATIVE, smooth_l1_loss
from heads.matching import gather_labels, match_anchors, pad_targets
from heads.normalizer import Normalizer
from heads.pooling import PyramidRoIAlign, rows_of
from heads.proposals import Proposals
from heads.roi_align import roi_align
from heads.sampling import random_priorities, sample

DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Factors of the deltas (dx, dy, dw, dh), which make them about as large as 1 (py-faster-rcnn, detectron)."""


@dataclass
class ProposalSample:
    """Proposals of one image that the second stage learns from.

    Attributes:
        proposals_xyxy: (P, 4).
        labels: (P,) int64, a class, or `NEGATIVE`.
        boxes_xyxy: (P, 4), the matched boxes; undefined for negatives.
    """

    proposals_xyxy: Tensor
    labels: Tensor
    boxes_xyxy: Tensor


class BoxHead(nn.Module):
    """RoIAlign, two linear layers with ReLU, and outputs for K classes, background, and a box for each class.

    Background has a layer of its own, so that the layer of the classes has exactly one row for each.

    Args:
        spec: the settings of the head.
        level_specs: geometry of at least `spec.roi_levels`.
        num_classes: K, without background.
    """

    def __init__(self, spec: FasterRCNNHeadSpec, level_specs: Mapping[str, LevelSpec], num_classes: int) -> None:
        super().__init__()
        self.spec = spec
        self.num_classes = num_classes
        selected = select_levels(level_specs, spec.roi_levels, "roi_levels")
        self.roi_align = PyramidRoIAlign(
            selected, spec.roi_size, min_cells=spec.roi_cells, aligned=spec.roi_aligned, pool=roi_align
        )
        channels = selected[spec.roi_levels[0]].channels
        self.trunk = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * spec.roi_size**2, spec.roi_channels),
            nn.ReLU(inplace=True),
            nn.Linear(spec.roi_channels, spec.roi_channels),
            nn.ReLU(inplace=True),
        )
        self.class_output = _output_layer(spec.roi_channels, num_classes, std=0.01)
        self.background_output = _output_layer(spec.roi_channels, 1, std=0.01)
        self.box_output = _output_layer(spec.roi_channels, 4 * num_classes, std=0.001)

    def forward(self, features: Features, proposals: ObjectRows) -> tuple[Tensor, Tensor]:
        """Return logits (R, K + 1), background last, and deltas (R, 4, K), float32, of the proposals of all images.

        The deltas are multiplied by `DELTA_WEIGHTS`.
        """
        rows = self.trunk(self.roi_align(features, proposals))
        logits = torch.cat((self.class_output(rows), self.background_output(rows)), dim=1)
        return logits.float(), self.box_output(rows).float().unflatten(1, (4, self.num_classes))

    def sample(self, found: Proposals, target: BoxTarget, priorities_N: Tensor, seed: int) -> ProposalSample:
        """Return a random sample of the proposals of one image and of its boxes, which are added to them.

        A proposal has the priority of its anchor, not of its rank, which rounding can change. Proposals without a box
        are ignored in crowd regions (see `heads.matching.match_anchors`).

        Args:
            found: the proposals.
            target: of the image.
            priorities_N: of all anchors.
            seed: for the priorities of the target boxes.
        """
        spec = self.spec
        boxes = target.boxes_xyxy[~target.is_crowd].float()
        proposals = torch.cat((found.boxes_xyxy, boxes))
        padded = pad_targets([target])
        if len(proposals) == 0:
            return ProposalSample(proposals, torch.zeros(0, dtype=torch.int64, device=proposals.device), proposals)
        matched_1P = match_anchors(
            proposals,
            padded,
            positive_iou=spec.roi_positive_iou,
            negative_iou=spec.roi_negative_iou,
            crowd_iof=spec.crowd_iof,
            keep_best=False,
        )
        of_boxes = random_priorities(len(boxes), seed, boxes.device)
        order = torch.cat((priorities_N[found.anchor_idxs], of_boxes)).argsort()
        rows = sample(matched_1P[0], order, num_samples=spec.roi_samples, positive_share=spec.roi_positive_share)
        labels = gather_labels(matched_1P, padded)[0, rows]
        return ProposalSample(proposals[rows], labels, padded.boxes_xyxy[0, matched_1P[0, rows].clamp(min=0)])

    def loss(
        self, features: Features, samples: Sequence[ProposalSample], normalizer: Normalizer
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Return `classification`, the cross-entropy of the sampled proposals, and `boxes`, the smooth-L1 loss (beta
        1/9) of the deltas of the positive ones for their class. The count of both is the number of samples. Both are
        totals of the normalizer.
        """
        logits, deltas = self(features, rows_of([own.proposals_xyxy for own in samples]))
        labels = torch.cat([own.labels for own in samples])
        images = torch.cat([torch.full_like(own.labels, image) for image, own in enumerate(samples)])
        proposals = torch.cat([own.proposals_xyxy for own in samples])
        boxes = torch.cat([own.boxes_xyxy for own in samples])
        wanted_classes = torch.where(labels == NEGATIVE, self.num_classes, labels)
        class_losses = functional.cross_entropy(logits, wanted_classes, reduction="none")
        rows = (labels >= 0).nonzero().squeeze(1)
        wanted = encode_deltas(boxes[rows], proposals[rows]) * deltas.new_tensor(DELTA_WEIGHTS)
        box_losses = smooth_l1_loss(deltas[rows, :, labels[rows]], wanted)
        num_images = len(samples)
        count = normalizer.total(torch.ones_like(class_losses), images, num_images)
        return {
            "classification": (normalizer.total(class_losses, images, num_images), count),
            "boxes": (normalizer.total(box_losses, images[rows], num_images), count),
        }


def _output_layer(channels: int, out_channels: int, std: float) -> nn.Linear:
    layer = nn.Linear(channels, out_channels)
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)
    return layer
