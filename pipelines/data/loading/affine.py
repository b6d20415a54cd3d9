"""Rotation, shear, scaling and shift of an image as one linear map.

Legend: N boxes, P points. Pixel 0 covers [0, 1]; points are (x, y) in pixels, y points downward.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from pipelines.data.loading.color import Color, apply_color
from pipelines.data.loading.pictures import as_picture, as_tensor

Matrix = NDArray[np.float64]
BoxRule = Literal["corners", "ellipse"]
FillColor = tuple[int, int, int]

MARGIN_PX = 3
"""Pixels around the visible part that interpolation may touch."""


@dataclass(frozen=True)
class Affine:
    """A linear map about the center of the image, followed by a shift.

    Attributes:
        matrix: (2, 2), of (x, y).
        shift_xy: pixels of the canvas.
        fill: color of the area that the image does not cover.
        box_rule: how boxes follow, see `enclosing_boxes`.
    """

    matrix: Matrix
    shift_xy: Matrix
    fill: FillColor = (0, 0, 0)
    box_rule: BoxRule = "corners"

    def then(self, other: "Affine") -> "Affine":
        """Return this map followed by another one about the same center, with the other one's fill and box rule."""
        return Affine(
            other.matrix @ self.matrix, other.matrix @ self.shift_xy + other.shift_xy, other.fill, other.box_rule
        )

    def mirrored(self, signs_xy: tuple[int, int]) -> "Affine":
        """Return the map that, after a flip of these axes, has the effect of this map followed by the flip."""
        flip = np.diag(signs_xy).astype(np.float64)
        return Affine(flip @ self.matrix @ flip, flip @ self.shift_xy, self.fill, self.box_rule)


def rotation_and_shear(angle_deg: float, shear_deg: float, scale: float) -> Matrix:
    """Return a horizontal shear, followed by a rotation (clockwise as seen) and a scaling, as a matrix (2, 2)."""
    angle = math.radians(angle_deg)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    shear = np.array([[1.0, math.tan(math.radians(shear_deg))], [0.0, 1.0]])
    matrix: Matrix = scale * rotation @ shear
    return matrix


def warp(
    image: Tensor, to_canvas: Matrix, canvas_hw: tuple[int, int], fill: FillColor, color: Color | None = None
) -> Tensor:
    """Return the image (3, H, W) uint8 moved onto a canvas.

    The pixels are interpolated bilinearly, once. A map that shrinks the image first resizes it, with antialiasing.

    Args:
        to_canvas: (2, 3), maps points of the image to points of the canvas.
        fill: color where the canvas is not covered.
        color: color change of the image, which does not touch `fill`.
    """
    height, width = image.shape[-2:]
    left, top, right, bottom = _needed(to_canvas, canvas_hw, (height, width))
    if right <= left or bottom <= top:
        return torch.tensor(fill, dtype=torch.uint8)[:, None, None].expand(3, *canvas_hw).contiguous()
    part_hw = (bottom - top, right - left)
    lengths = np.linalg.norm(to_canvas[:, :2], axis=0)
    resized_hw = [max(1, round(side * min(1.0, length))) for side, length in zip(part_hw, lengths[::-1], strict=True)]
    part = F.resize(image[:, top:bottom, left:right].as_subclass(Tensor), resized_hw, antialias=True)
    if color is not None:
        part = apply_color(part, *color)
    scale_xy = np.array([part_hw[1] / resized_hw[1], part_hw[0] / resized_hw[0]])
    linear = to_canvas[:, :2] * scale_xy
    offset = to_canvas[:, :2] @ np.array([left, top]) + to_canvas[:, 2]
    backward = np.linalg.inv(linear)
    coefficients = np.column_stack([backward, -backward @ offset]).ravel().tolist()
    moved = as_picture(part).transform(
        (canvas_hw[1], canvas_hw[0]),
        Image.Transform.AFFINE,
        coefficients,
        resample=Image.Resampling.BILINEAR,
        fillcolor=fill,
    )
    return as_tensor(moved)


def _needed(to_canvas: Matrix, canvas_hw: tuple[int, int], image_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of the image's part that covers the canvas."""
    height, width = canvas_hw
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float64)
    seen = (corners - to_canvas[:, 2]) @ np.linalg.inv(to_canvas[:, :2]).T
    margin = MARGIN_PX * np.maximum(1.0, 1.0 / np.linalg.norm(to_canvas[:, :2], axis=0))
    limits = np.array([image_hw[1], image_hw[0]])
    left, top = np.clip(np.floor(seen.min(axis=0) - margin), 0, limits)
    right, bottom = np.clip(np.ceil(seen.max(axis=0) + margin), 0, limits)
    return int(left), int(top), int(right), int(bottom)


def enclosing_boxes(
    boxes_xyxy: Tensor, to_canvas: Matrix, canvas_hw: tuple[int, int], rule: BoxRule
) -> tuple[Tensor, Tensor]:
    """Return the boxes (N, 4) around the moved objects: of their visible parts, and of the whole objects.

    A turned rectangle needs a larger box than the object inside it usually does. `corners` encloses the four moved
    corners, which is exact for objects that fill their boxes; `ellipse` encloses the moved ellipse that the box
    encloses, which is exact for round objects and smaller at any angle that is not a multiple of 90 degrees (Kalra et
    al. 2021, arXiv 2109.13488).
    """
    boxes = boxes_xyxy.numpy().astype(np.float64)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2 @ to_canvas[:, :2].T + to_canvas[:, 2]
    half_sides = (boxes[:, 2:] - boxes[:, :2]) / 2
    if rule == "ellipse":
        # The support function of an ellipse: its extent along an axis is the norm of that row of matrix * radii.
        reach = np.sqrt((to_canvas[None, :, :2] ** 2 @ half_sides[:, :, None] ** 2)[:, :, 0])
        whole = np.concatenate([centers - reach, centers + reach], axis=1)
        visible = whole
    else:
        signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        corners = (half_sides[:, None, :] * signs) @ to_canvas[:, :2].T + centers[:, None, :]
        whole = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
        visible = whole.copy()
        is_cut = (whole[:, :2] < 0).any(axis=1) | (whole[:, 2:] > [canvas_hw[1], canvas_hw[0]]).any(axis=1)
        for index in np.flatnonzero(is_cut):
            visible[index] = _box_of_visible_part(corners[index], canvas_hw)
    visible = np.clip(visible, 0, [canvas_hw[1], canvas_hw[0]] * 2)
    return torch.from_numpy(visible).to(boxes_xyxy), torch.from_numpy(whole).to(boxes_xyxy)


def _box_of_visible_part(polygon: Matrix, canvas_hw: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the box around the part of a polygon (P, 2) inside the canvas; zeros if nothing is visible.

    The polygon is clipped at one border after the other (Sutherland and Hodgman 1974): the part of a turned rectangle
    that a border leaves can be smaller than the clipped box.
    """
    for axis, limit, sign in ((0, 0, 1), (1, 0, 1), (0, canvas_hw[1], -1), (1, canvas_hw[0], -1)):
        inside = sign * (polygon[:, axis] - limit)
        if (inside >= 0).all():
            continue
        points = []
        for here in range(len(polygon)):
            before = here - 1
            if (inside[before] < 0) != (inside[here] < 0):
                share = inside[before] / (inside[before] - inside[here])
                points.append(polygon[before] + share * (polygon[here] - polygon[before]))
            if inside[here] >= 0:
                points.append(polygon[here])
        if not points:
            return 0.0, 0.0, 0.0, 0.0
        polygon = np.array(points)
    (left, top), (right, bottom) = polygon.min(axis=0), polygon.max(axis=0)
    return left, top, right, bottom
