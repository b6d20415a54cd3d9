"""FCOS: detection with locations instead of anchors.

Tian, Shen, Chen, He 2019, "FCOS: Fully Convolutional One-Stage Object Detection", arXiv 1904.01355.
Legend: B images, N locations of all levels, K classes, L levels.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import generalized_box_iou_loss

from heads.anchors import cell_centers
from heads.base import BoxTarget, Features, LevelSpec, LossTerms
from heads.box_coding import decode_ltrb, encode_ltrb
from heads.dense import DenseHead, DenseOutputs, flatten_levels, output_conv
from heads.detection_spec import FCOSHeadSpec
from heads.explainable import log_odds_of_mean
from heads.fast_convolution import on_all_maps
from heads.losses import sigmoid_focal_loss
from heads.matching import gather_labels, match_locations, pad_targets


class FCOSHead(DenseHead):
    """FCOS with the improvements of the authors' release: center sampling, centerness on the box tower, the GIoU loss,
    and distances in units of the stride.

    `classification` is the focal loss (alpha 0.25, gamma 2) of all locations except ignored ones. `boxes` is the GIoU
    loss of positive locations, weighted by their centerness target; its count is the sum of these weights
    (`box_weights: equal` omits them).
    `centerness` is the binary cross-entropy of positive locations. The count of the other two is the number of
    positive locations. The score of a detection is sqrt(class score * centerness).

    A distance is relu(scale of the level * output) * stride, as in the release with `norm_reg_targets`; the paper uses
    exp(scale * output). Initial distances are half the upper end of a level's range, so that no ReLU is dead at first:
    from random weights on BCCD (4 epochs at 256 x 192, scored on val) two seeds gave AP 0.436 and 0.453; the bias of 0
    that torchvision uses gave 0.409 and 0.428.

    A level takes boxes whose farthest edge is at most `range_scale` strides away and that are too large for the next
    finer level; the last level has no limit. A scale of 8 gives the paper's limits of 64, 128, 256 and 512 pixels.
    """

    spec: FCOSHeadSpec
    level_geometry: Tensor
    """(L, 4): stride, radius, lower and upper end of the range, in px."""

    def __init__(self, spec: FCOSHeadSpec, *, level_specs: Mapping[str, LevelSpec], num_classes: int) -> None:
        super().__init__(
            spec,
            level_specs=level_specs,
            num_classes=num_classes,
            anchors_per_cell=1,
            box_bias=spec.range_scale / 2,
        )
        strides = [level_spec.stride for level_spec in self.level_specs.values()]
        radii = [spec.center_sampling_radius * stride for stride in strides]
        uppers = [spec.range_scale * stride for stride in strides[:-1]]
        rows = zip(strides, radii, [0.0, *uppers], [*uppers, math.inf], strict=True)
        self.register_buffer("level_geometry", torch.tensor(list(rows)), persistent=False)
        self.centerness_output = output_conv(self.box_output.in_channels, 1)
        self.level_scales = nn.Parameter(torch.ones(len(strides)))

    @property
    def loss_terms(self) -> tuple[str, ...]:
        return ("classification", "boxes", "centerness")

    def forward(self, features: Features) -> DenseOutputs:
        maps = self.level_maps(features)
        box_maps = on_all_maps(self.box_tower, maps)
        distances = [self.box_output(m).float() * scale for m, scale in zip(box_maps, self.level_scales, strict=True)]
        return DenseOutputs(
            logits=flatten_levels(
                on_all_maps(self.class_output, on_all_maps(self.class_tower, maps)), self.num_classes
            ),
            box_codes=flatten_levels(distances, 4).relu(),
            sizes_hw=tuple((m.shape[2], m.shape[3]) for m in maps),
            centerness=flatten_levels([self.centerness_output(m) for m in box_maps], 1).squeeze(2),
        )

    def geometry(self, raw: DenseOutputs) -> Tensor:
        """Return x and y of each cell's center, its stride, radius, and both ends of its range, in px: (N, 6)."""
        levels = []
        for size_hw, spec, row in zip(raw.sizes_hw, self.level_specs.values(), self.level_geometry, strict=True):
            points = cell_centers(size_hw, spec, row.device, cell_offset=self.spec.cell_offset)
            levels.append(torch.cat((points, row.expand(points.shape[0], 4)), dim=1))
        return torch.cat(levels)

    def loss(
        self, raw: DenseOutputs, targets: Sequence[BoxTarget], image_sizes_hw: Sequence[tuple[int, int]]
    ) -> LossTerms:
        geometry = self.geometry(raw)
        points, radii, ranges = geometry[:, :2], geometry[:, 3], geometry[:, 4:]
        padded = pad_targets(targets)
        matched_BN = match_locations(points, radii, ranges, padded)
        images, rows = (matched_BN >= 0).nonzero(as_tuple=True)
        num_images, normalizer = len(targets), self.normalizer
        count = normalizer.total(torch.ones_like(images, dtype=torch.float32), images, num_images)

        boxes = padded.boxes_xyxy[images, matched_BN[images, rows]]
        centerness = centerness_targets(encode_ltrb(boxes, points[rows]))
        predicted = self.decode_boxes(raw.box_codes[images, rows], geometry[rows])
        box_losses = generalized_box_iou_loss(predicted, boxes, reduction="none")
        assert raw.centerness is not None
        centerness_losses = functional.binary_cross_entropy_with_logits(
            raw.centerness[images, rows].float(), centerness, reduction="none"
        )
        labels_BN = gather_labels(matched_BN, padded)
        if self.spec.box_weights == "equal":
            boxes_total = (normalizer.total(box_losses, images, num_images), count)
        else:
            weights_total = normalizer.total(centerness, images, num_images)
            boxes_total = (normalizer.total(box_losses * centerness, images, num_images), weights_total)
        return normalizer.terms(
            {
                "classification": (normalizer.total_of_images(sigmoid_focal_loss, raw.logits, labels_BN), count),
                "boxes": boxes_total,
                "centerness": (normalizer.total(centerness_losses, images, num_images), count),
            },
            num_images,
        )

    def scores(self, raw: DenseOutputs) -> Tensor:
        assert raw.centerness is not None
        return (raw.logits.float().sigmoid() * raw.centerness.float().sigmoid()[..., None]).sqrt()

    def log_odds(self, raw: DenseOutputs, row: int, label: int) -> Tensor:
        assert raw.centerness is not None
        return log_odds_of_mean(raw.logits[:, row, label], raw.centerness[:, row])

    def decode_boxes(self, boxes_M4: Tensor, geometry_MG: Tensor) -> Tensor:
        return decode_ltrb(boxes_M4 * geometry_MG[:, 2:3], geometry_MG[:, :2])


def centerness_targets(distances: Tensor) -> Tensor:
    """Return the centerness (N,) in 0..1 of positive distances (N, 4).

    It is sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) (equation 3 of the paper).
    """
    left, top, right, bottom = distances.unbind(1)
    along_x = torch.minimum(left, right) / torch.maximum(left, right)
    along_y = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    return (along_x * along_y).sqrt()
