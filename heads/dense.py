"""The parts that dense detectors share: convolution towers on all pyramid levels, flat outputs, and decoding.

Legend: B images, N rows (anchors or locations) of all levels, M selected rows, A anchors per cell, K classes, G numbers
of geometry per row.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from heads.base import BoxPrediction, Features, Head, LevelSpec, LossTerms
from heads.detection_spec import DenseHeadSpec, Norm
from heads.explainable import ChosenPrediction, FollowedScore, nearest_row
from heads.exportable import ObjectRows
from heads.graph_detections import (
    MISSING,
    best_of_levels,
    by_class,
    clip_boxes,
    drop_empty,
    require_plain_nms,
    rows_of_detections,
    suppress_all,
    take_rows,
)
from heads.norm import group_norm
from heads.normalizer import Normalizer
from heads.postprocess import select_candidates, select_detections

PRIOR = 0.01
"""Initial score of every class, so that the many negatives do not dominate the first steps (Lin et al. 2017, arXiv
1708.02002, section 4.1)."""


@dataclass
class DenseOutputs:
    """Raw outputs for B images; rows are ordered by level, then by cell (row by row), then by anchor.

    Attributes:
        logits: (B, N, K).
        box_codes: (B, N, 4), boxes in the head's own coding.
        sizes_hw: height and width of each level in cells.
        centerness: (B, N) logits; None for a head without centerness.
    """

    logits: Tensor
    box_codes: Tensor
    sizes_hw: tuple[tuple[int, int], ...]
    centerness: Tensor | None = None


class DenseHead(Head):
    """A tower for classes and a tower for boxes; all levels share their weights.

    Args:
        spec: the head's settings; GroupNorm (`norm: gn`) has up to 32 groups.
        level_specs: geometry of at least `spec.levels`, which all have the same number of channels.
        num_classes: K, without background.
        anchors_per_cell: A.
        box_bias: initial value of every box code.

    Raises:
        ValueError: a level is unknown, or channels differ between levels.
    """

    finds_objects: ClassVar[bool] = True
    spec: DenseHeadSpec

    def __init__(
        self,
        spec: DenseHeadSpec,
        *,
        level_specs: Mapping[str, LevelSpec],
        num_classes: int,
        anchors_per_cell: int,
        box_bias: float = 0.0,
    ) -> None:
        super().__init__()
        self.level_specs = select_levels(level_specs, spec.levels)
        channels = self.level_specs[spec.levels[0]].channels
        self.spec = spec
        self.num_classes = num_classes
        self.anchors_per_cell = anchors_per_cell
        self.class_tower = conv_tower(channels, spec.num_convs, spec.norm, spec.bias_before_norm)
        self.box_tower = conv_tower(channels, spec.num_convs, spec.norm, spec.bias_before_norm)
        self.class_output = output_conv(channels, anchors_per_cell * num_classes, bias=-math.log((1 - PRIOR) / PRIOR))
        self.box_output = output_conv(channels, anchors_per_cell * 4, bias=box_bias)
        self.normalizer = Normalizer(spec.normalizer, len(self.loss_terms))

    def idle_loss(self) -> LossTerms:
        self.normalizer.idle()
        return super().idle_loss()

    def level_maps(self, features: Features) -> list[Tensor]:
        """Return the features of the head's levels, finest first."""
        return [features[level] for level in self.level_specs]

    def scores(self, raw: DenseOutputs) -> Tensor:
        """Return the scores (B, N, K) in 0..1, float32."""
        raise NotImplementedError

    def geometry(self, raw: DenseOutputs) -> Tensor:
        """Return the geometry of every row that `decode_boxes` needs: (N, G), float32."""
        raise NotImplementedError

    def decode_boxes(self, boxes_M4: Tensor, geometry_MG: Tensor) -> Tensor:
        """Return the boxes xyxy (M, 4), float32, of M rows of box codes, given the geometry (M, G) of each row."""
        raise NotImplementedError

    def decode(
        self,
        raw: DenseOutputs,
        image_sizes_hw: Sequence[tuple[int, int]],
        boxes_xyxy: Sequence[Tensor] | None = None,
    ) -> list[BoxPrediction]:
        """Return the detections of each image, best first, clipped to the image; images do not affect each other."""
        geometry, box_codes = self.geometry(raw), raw.box_codes
        return _detections(
            self.spec,
            self.scores(raw),
            self._level_lengths(raw),
            lambda image, rows: self.decode_boxes(box_codes[image, rows], geometry[rows]),
            image_sizes_hw,
        )

    def graph_outputs(
        self, raw: DenseOutputs, image_sizes_hw: Tensor, objects: ObjectRows | None = None
    ) -> dict[str, Tensor]:
        """Return `scores` (B, N, K), `boxes` (B, N, 4) in xyxy, not clipped, and the `level` (N,) int64 of each row."""
        num_images, num_rows = raw.box_codes.shape[:2]
        geometry = self.geometry(raw).expand(num_images, num_rows, -1)
        boxes = self.decode_boxes(raw.box_codes.flatten(0, 1), geometry.flatten(0, 1))
        lengths = self._level_lengths(raw)
        levels = torch.cat([torch.full((length,), level) for level, length in enumerate(lengths)])
        return {"scores": self.scores(raw), "boxes": boxes.view(num_images, num_rows, 4), "level": levels}

    def graph_detections(self, raw: DenseOutputs, image_sizes_hw: Tensor) -> dict[str, Tensor]:
        spec, num_classes = self.spec, self.num_classes
        require_plain_nms(spec)
        outputs = self.graph_outputs(raw, image_sizes_hw)
        scores = outputs["scores"].flatten(1)
        scores = torch.where(scores > spec.score_threshold, scores, MISSING)
        lengths = [length * num_classes for length in self._level_lengths(raw)]
        best, cells = best_of_levels(scores, lengths, spec.candidates_per_level)
        labels = cells % num_classes
        boxes = clip_boxes(take_rows(outputs["boxes"], cells // num_classes), image_sizes_hw)
        of_classes = by_class(drop_empty(best, boxes), labels, num_classes)
        kept = suppress_all(boxes, of_classes, nms_iou=spec.nms_iou, limit=spec.max_detections)
        return rows_of_detections(boxes, kept.amax(dim=1), labels, max_detections=spec.max_detections)

    def log_odds(self, raw: DenseOutputs, row: int, label: int) -> Tensor:
        """Return log(score / (1 - score)) (B,) of one row and class, float32."""
        raise NotImplementedError

    def follow(self, raw: DenseOutputs, size_hw: tuple[int, int], chosen: ChosenPrediction) -> FollowedScore:
        """Return the log-odds of the score of the row that gave the box; its level is that of the row."""
        box, found_label, label = chosen.box_xyxy, chosen.found_label, chosen.label
        assert box is not None
        assert found_label is not None
        assert label is not None
        boxes = clip_boxes_to_image(self.decode_boxes(raw.box_codes[0], self.geometry(raw)), size_hw)
        row = nearest_row(boxes, self.scores(raw)[0, :, found_label], box)
        ends = torch.tensor(self._level_lengths(raw)).cumsum(0)
        level = list(self.level_specs)[int(torch.searchsorted(ends, row, right=True))]
        return FollowedScore(lambda raw: self.log_odds(raw, row, label), "log_odds", level, is_local=True)

    def _level_lengths(self, raw: DenseOutputs) -> list[int]:
        return [height * width * self.anchors_per_cell for height, width in raw.sizes_hw]


def decode_rows(
    outputs: Mapping[str, Tensor], spec: DenseHeadSpec, image_sizes_hw: Sequence[tuple[int, int]]
) -> list[BoxPrediction]:
    """Return the same as `DenseHead.decode`, given its `graph_outputs`."""
    boxes = outputs["boxes"]
    lengths = outputs["level"].bincount(minlength=len(spec.levels)).tolist()
    return _detections(spec, outputs["scores"], lengths, lambda image, rows: boxes[image, rows], image_sizes_hw)


def _detections(
    spec: DenseHeadSpec,
    scores_BNK: Tensor,
    level_lengths: Sequence[int],
    boxes_of: Callable[[int, Tensor], Tensor],
    image_sizes_hw: Sequence[tuple[int, int]],
) -> list[BoxPrediction]:
    """Return the detections of each image; `boxes_of` returns the boxes (M, 4) of rows (M,) of an image."""
    predictions = []
    for image, (scores_NK, size_hw) in enumerate(zip(scores_BNK, image_sizes_hw, strict=True)):
        scores, rows, labels = select_candidates(
            scores_NK, level_lengths, score_threshold=spec.score_threshold, per_level=spec.candidates_per_level
        )
        boxes = boxes_of(image, rows)
        predictions.append(select_detections(boxes, scores, labels, size_hw, spec))
    return predictions


def select_levels(
    level_specs: Mapping[str, LevelSpec], levels: Sequence[str], field: str = "levels"
) -> dict[str, LevelSpec]:
    """Return the geometry of some levels, which all have the same number of channels.

    Raises:
        ValueError: a level is unknown, or channels differ between levels; the message names `field`.
    """
    if unknown := [level for level in levels if level not in level_specs]:
        raise ValueError(f"{field}: got {unknown}; choose from {sorted(level_specs)}")
    selected = {level: level_specs[level] for level in levels}
    channels = {level: level_spec.channels for level, level_spec in selected.items()}
    if len(set(channels.values())) != 1:
        raise ValueError(f"{field}: their channels differ, {channels}; choose levels of the pyramid, p3 to p7")
    return selected


def flatten_levels(level_maps: Sequence[Tensor], width: int) -> Tensor:
    """Return the maps of all levels, each (B, A * width, H, W), as rows (B, N, width)."""
    rows = [maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, width) for maps in level_maps]
    return torch.cat(rows, dim=1)


def conv_tower(channels: int, num_convs: int, norm: Norm, bias_before_norm: bool = False) -> nn.Sequential:
    """Return `num_convs` blocks of 3x3 convolution, norm and ReLU, all with `channels` channels.

    With a norm, the weights are drawn from N(0, 0.01), as in the papers: the norm cancels their scale, and the
    direction of small weights changes quickly. Without a norm, a standard deviation of 0.01 would shrink the signal of
    few channels layer by layer, so the weights use He initialization (He et al. 2015, arXiv 1502.01852).
    """
    layers: list[nn.Module] = []
    for _ in range(num_convs):
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=norm == "none" or bias_before_norm)
        layers.append(conv)
        if norm == "gn":
            nn.init.normal_(conv.weight, std=0.01)
            layers.append(group_norm(channels))
        else:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def output_conv(channels: int, out_channels: int, bias: float = 0.0, kernel: int = 3) -> nn.Conv2d:
    """Return the convolution after a tower, 3x3 or 1x1, with weights drawn from N(0, 0.01) and a constant bias."""
    conv = nn.Conv2d(channels, out_channels, kernel, padding=kernel // 2)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.constant_(conv.bias, bias)  # type: ignore[arg-type]
    return conv
