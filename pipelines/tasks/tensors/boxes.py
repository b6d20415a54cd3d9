"""Boxes in pixels: clipped, mapped back to the original image, as width and height.

Legend: N boxes. Pixel 0 covers [0, 1]; boxes are xyxy unless the name says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


class ResizedImage(Protocol):
    """Size of an image before it was resized, and the factors that x and y were multiplied with."""

    @property
    def original_hw(self) -> tuple[int, int]: ...
    @property
    def scale_xy(self) -> tuple[float, float]: ...


def clip_boxes(boxes_xyxy: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Return boxes (N, 4) clipped to an image of `size_hw`."""
    height, width = size_hw
    return boxes_xyxy.clamp(min=0).minimum(boxes_xyxy.new_tensor([width, height, width, height]))


def boxes_to_original(boxes_xyxy: Tensor, image: ResizedImage) -> Tensor:
    """Return boxes (N, 4) of the network's input in pixels of the original image, clipped to it.

    Evaluation, prediction and serving all map boxes with this function. It undoes the transform of evaluation; an
    augmented image has been flipped and shifted too.
    """
    scale_x, scale_y = image.scale_xy
    return clip_boxes(boxes_xyxy / boxes_xyxy.new_tensor([scale_x, scale_y, scale_x, scale_y]), image.original_hw)


def xyxy_to_xywh(boxes_xyxy: NDArray[Any]) -> NDArray[np.float64]:
    """Return (N, 4) boxes as x, y, width, height in float64."""
    boxes = boxes_xyxy.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
