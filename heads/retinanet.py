"""RetinaNet: detection with anchors and the focal loss.

Lin, Goyal, Girshick, He, Dollár 2017, "Focal Loss for Dense Object Detection", arXiv 1708.02002.
Legend: B images, N anchors of all levels, A anchors per cell, K classes, L levels.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from heads.anchors import grid_anchors, shapes_of_levels
from heads.base import BoxTarget, Features, LevelSpec, LossTerms
from heads.box_coding import decode_deltas, encode_deltas
from heads.dense import DenseHead, DenseOutputs, flatten_levels
from heads.detection_spec import RetinaNetHeadSpec
from heads.fast_convolution import on_all_maps
from heads.losses import SMOOTH_L1_BETA, sigmoid_focal_loss, smooth_l1_loss
from heads.matching import gather_labels, match_anchors, pad_targets


class RetinaNetHead(DenseHead):
    """RetinaNet's two subnets on a pyramid, with anchors that follow the measured strides and offsets.

    `classification` is the focal loss (alpha 0.25, gamma 2) of all anchors except ignored ones. `boxes` is the
    smooth-L1 loss of the deltas (beta 1/9), their L1 loss, or the GIoU loss of the decoded boxes (Rezatofighi et al.
    2019, arXiv 1902.09630) of the positive anchors. The count of both is the number of positive anchors, of the images
    that `normalizer` selects (see `heads.normalizer.Normalizer`). Without a norm, the towers use He initialization (see
    `heads.dense.conv_tower`).
    """

    spec: RetinaNetHeadSpec
    shapes: Tensor
    """(L, A, 2): width and height in px of the anchors of a cell."""

    def __init__(self, spec: RetinaNetHeadSpec, *, level_specs: Mapping[str, LevelSpec], num_classes: int) -> None:
        super().__init__(
            spec,
            level_specs=level_specs,
            num_classes=num_classes,
            anchors_per_cell=spec.anchors_per_cell,
        )
        self.register_buffer("shapes", shapes_of_levels(spec, self.level_specs), persistent=False)

    @property
    def loss_terms(self) -> tuple[str, ...]:
        return ("classification", "boxes")

    def forward(self, features: Features) -> DenseOutputs:
        maps = self.level_maps(features)
        return DenseOutputs(
            logits=flatten_levels(
                on_all_maps(self.class_output, on_all_maps(self.class_tower, maps)), self.num_classes
            ),
            box_codes=flatten_levels(on_all_maps(self.box_output, on_all_maps(self.box_tower, maps)), 4),
            sizes_hw=tuple((m.shape[2], m.shape[3]) for m in maps),
        )

    def geometry(self, raw: DenseOutputs) -> Tensor:
        """Return the anchors xyxy (N, 4)."""
        levels = zip(raw.sizes_hw, self.level_specs.values(), self.shapes, strict=True)
        offset = self.spec.cell_offset
        return torch.cat([grid_anchors(hw, spec, shapes, cell_offset=offset) for hw, spec, shapes in levels])

    def loss(
        self, raw: DenseOutputs, targets: Sequence[BoxTarget], image_sizes_hw: Sequence[tuple[int, int]]
    ) -> LossTerms:
        anchors = self.geometry(raw)
        padded = pad_targets(targets)
        matched_BN = match_anchors(
            anchors,
            padded,
            positive_iou=self.spec.positive_iou,
            negative_iou=self.spec.negative_iou,
            crowd_iof=self.spec.crowd_iof,
        )
        images, rows = (matched_BN >= 0).nonzero(as_tuple=True)
        boxes = padded.boxes_xyxy[images, matched_BN[images, rows]]
        box_losses = self._box_losses(raw.box_codes[images, rows], boxes, anchors[rows])
        labels_BN = gather_labels(matched_BN, padded)
        num_images, normalizer = len(targets), self.normalizer
        count = normalizer.total(torch.ones_like(images, dtype=torch.float32), images, num_images)
        return normalizer.terms(
            {
                "classification": (normalizer.total_of_images(sigmoid_focal_loss, raw.logits, labels_BN), count),
                "boxes": (normalizer.total(box_losses, images, num_images), count),
            },
            num_images,
        )

    def _box_losses(self, deltas: Tensor, boxes_xyxy: Tensor, anchors_xyxy: Tensor) -> Tensor:
        """Return the losses of positive anchors, (N,) or (N, 4)."""
        if self.spec.box_loss == "giou":
            losses: Tensor = generalized_box_iou_loss(self.decode_boxes(deltas, anchors_xyxy), boxes_xyxy)
            return losses
        beta = 0.0 if self.spec.box_loss == "l1" else SMOOTH_L1_BETA
        return smooth_l1_loss(deltas, encode_deltas(boxes_xyxy, anchors_xyxy), beta=beta)

    def scores(self, raw: DenseOutputs) -> Tensor:
        return raw.logits.float().sigmoid()

    def log_odds(self, raw: DenseOutputs, row: int, label: int) -> Tensor:
        return raw.logits[:, row, label].float()

    def decode_boxes(self, boxes_M4: Tensor, geometry_MG: Tensor) -> Tensor:
        return decode_deltas(boxes_M4, geometry_MG)
