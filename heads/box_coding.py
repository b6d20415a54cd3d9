"""Encoding of boxes as the numbers that a network predicts, and decoding: deltas to anchors, distances from points."""

import math

import torch
from torch import Tensor

MAX_LOG_RATIO = math.log(1000 / 16)
"""Upper limit of dw and dh: each side of a box is at most 62.5 times its anchor's side, so that `exp` stays finite."""


def encode_deltas(boxes_xyxy: Tensor, anchors_xyxy: Tensor) -> Tensor:
    """Return the deltas (dx, dy, dw, dh) (..., 4) that encode boxes relative to anchors; `decode_deltas` inverts this.

    dx and dy are the shift of the center divided by the anchor's width and height; dw and dh are the logarithms of the
    ratios of the widths and of the heights (Girshick et al. 2014, arXiv 1311.2524, appendix C).
    """
    boxes_xy, boxes_wh = _centers_and_sides(boxes_xyxy)
    anchors_xy, anchors_wh = _centers_and_sides(anchors_xyxy)
    return torch.cat(((boxes_xy - anchors_xy) / anchors_wh, (boxes_wh / anchors_wh).log()), dim=-1)


def decode_deltas(deltas: Tensor, anchors_xyxy: Tensor) -> Tensor:
    """Return the boxes xyxy (..., 4), float32, of deltas (dx, dy, dw, dh); dw and dh are limited to `MAX_LOG_RATIO`."""
    deltas = deltas.float()
    anchors_xy, anchors_wh = _centers_and_sides(anchors_xyxy)
    centers = anchors_xy + deltas[..., :2] * anchors_wh
    half = anchors_wh * deltas[..., 2:].clamp(max=MAX_LOG_RATIO).exp() / 2
    return torch.cat((centers - half, centers + half), dim=-1)


def encode_ltrb(boxes_xyxy: Tensor, points_xy: Tensor) -> Tensor:
    """Return the distances (..., 4) in pixels from points (..., 2) to the left, top, right and bottom edges of boxes.

    A distance is negative if the point is beyond that edge (Tian et al. 2019, arXiv 1904.01355, equation 1).
    """
    return torch.cat((points_xy - boxes_xyxy[..., :2], boxes_xyxy[..., 2:] - points_xy), dim=-1)


def decode_ltrb(distances: Tensor, points_xy: Tensor) -> Tensor:
    """Return the boxes xyxy (..., 4), float32, whose edges are at distances (..., 4) in pixels from the points."""
    distances = distances.float()
    return torch.cat((points_xy - distances[..., :2], points_xy + distances[..., 2:]), dim=-1)


def _centers_and_sides(boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return (low + high) / 2, high - low
