"""Geometry and color of images and boxes together, and the one way back to original pixels.

Legend: N boxes, H W size in pixels. Pixel 0 covers [0, 1]; boxes are xyxy and scale without any "+1".
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from heads.base import BoxTarget, Target
from pipelines.spec.data import AugmentSpec

MIN_KEPT_AREA = 0.3
"""An object of which a crop leaves less is not taught: what remains often does not show what it is."""

MIN_SIDE_PX = 1.0
"""A box below one input pixel a side has no content, and its logarithms and IoUs are noise."""

BRIGHTNESS = (0.75, 1.25)
CONTRAST = (0.75, 1.25)
SATURATION = (0.7, 1.3)
CHANNEL_GAIN = (0.9, 1.1)
"""Color casts stand in for a change of hue, which costs 5 ms an image of 320x240 (one core) against 0.3 ms for all
four of these in one matrix."""

LUMA = torch.tensor([0.2989, 0.587, 0.114])
"""torchvision's weights of R, G and B in gray."""

ImageSize = int | tuple[int, int]
"""`data.image_size`: the longer side, or (height, width) that images are fitted inside."""


@dataclass(frozen=True)
class Transformed:
    """An image (3, H, W) uint8, its targets in its pixels, and the scale really applied to x and y."""

    image: Tensor
    targets: dict[str, Target]
    scale_xy: tuple[float, float]


def fitted_size(original_hw: tuple[int, int], image_size: ImageSize) -> tuple[int, int]:
    """Return (height, width) of an image fitted inside `image_size` with its aspect kept.

    Both sides are rounded half up, to at least 1 pixel and at most the limit; so the scales of x and y differ by at
    most half a pixel a side, and each is known exactly: new / original.
    """
    limits_hw = (image_size, image_size) if isinstance(image_size, int) else image_size
    scale = min(limit / side for limit, side in zip(limits_hw, original_hw, strict=True))
    height, width = (min(limit, _round(side * scale)) for limit, side in zip(limits_hw, original_hw, strict=True))
    return height, width


class EvalTransform:
    """Resizes to the fitted size; keeps every box, in its order.

    Antialiased bilinear on uint8, for images whose memory is HWC (as decoded): 0.3 ms for 640x480 -> 320x240 on one
    core, half of what the same call takes on CHW memory.
    """

    def __init__(self, image_size: ImageSize) -> None:
        self.image_size = image_size

    def __call__(
        self, image: Tensor, targets: dict[str, Target], rng: np.random.Generator | None = None
    ) -> Transformed:
        """Return the resized image and targets. Nothing is random: `rng` is what the train transform needs."""
        height, width = image.shape[-2:]
        size = fitted_size((height, width), self.image_size)
        boxes = _join_boxes(targets, (height, width))
        resized = F.resize(image, list(size), antialias=True)
        return Transformed(
            image=resized,
            targets=_split_boxes(targets, F.resize(boxes, list(size))),
            scale_xy=(size[1] / width, size[0] / height),
        )


@dataclass(frozen=True)
class _Span:
    """One axis of the zoom: source pixels [start, start + extent) become `size` pixels at `offset`."""

    start: int
    extent: int
    size: int
    offset: int


class TrainTransform:
    """Zoom with crop or pad, color, flips, then boxes that lost too much are dropped.

    The image is resized once: the crop is taken from the original, so that a zoom in keeps the original's detail.
    The result has the size that evaluation gives the image. Color comes after the resize (fewer pixels) and before
    the padding (padding stays 0, as it does in a batch).
    """

    def __init__(self, image_size: ImageSize, augment: AugmentSpec) -> None:
        self.image_size = image_size
        self.augment = augment

    def __call__(self, image: Tensor, targets: dict[str, Target], rng: np.random.Generator) -> Transformed:
        """Return the augmented image and targets: a function of the arguments and the generator's state."""
        height, width = image.shape[-2:]
        base_height, base_width = fitted_size((height, width), self.image_size)
        zoom, place_y, place_x = _draw_zoom(self.augment.scale_jitter, rng), rng.random(), rng.random()
        y, x = _place(height, base_height, zoom, place_y), _place(width, base_width, zoom, place_x)
        is_hflipped, is_vflipped = rng.random() < self.augment.hflip, rng.random() < self.augment.vflip
        padding = [x.offset, y.offset, base_width - x.offset - x.size, base_height - y.offset - y.size]

        def geometry(inpt: Tensor, color: tuple[Tensor, Tensor] | None = None) -> Tensor:
            out = F.resized_crop(inpt, y.start, x.start, y.extent, x.extent, [y.size, x.size], antialias=True)
            if color is not None:
                out = apply_color(out, *color)
            if any(padding):
                out = F.pad(out, padding)
            if is_hflipped:
                out = F.horizontal_flip(out)
            flipped: Tensor = F.vertical_flip(out) if is_vflipped else out
            return flipped

        scale_xy = (x.size / x.extent, y.size / y.extent)
        moved = geometry(_join_boxes(targets, (height, width)))
        color = draw_color(self.augment.photometric, rng)
        return Transformed(
            image=geometry(image, color),
            targets=sanitize(targets, _split_boxes(targets, moved), scale_xy[0] * scale_xy[1]),
            scale_xy=scale_xy,
        )


def sanitize(before: dict[str, Target], after: dict[str, Target], area_scale: float) -> dict[str, Target]:
    """Return `after` without boxes that kept less than 30 % of their area or are smaller than a pixel.

    Labels, crowd flags and identities stay with their boxes. A crowd region stays however little is left of it: where
    it is, nothing is known, and the rest of it must not become background.

    Args:
        before: targets before the geometry.
        after: the same boxes after it, clipped to the image.
        area_scale: what the geometry multiplies areas with.
    """
    kept: dict[str, Target] = dict(after)
    for task, target in after.items():
        original = before[task]
        if not isinstance(target, BoxTarget) or not isinstance(original, BoxTarget):
            continue
        sides = target.boxes_xyxy[:, 2:] - target.boxes_xyxy[:, :2]
        whole_sides = original.boxes_xyxy[:, 2:] - original.boxes_xyxy[:, :2]
        has_area = sides.prod(dim=1) >= MIN_KEPT_AREA * area_scale * whole_sides.prod(dim=1)
        keep = (sides >= MIN_SIDE_PX).all(dim=1) & (has_area | target.is_crowd)
        kept[task] = BoxTarget(
            boxes_xyxy=target.boxes_xyxy[keep],
            labels=target.labels[keep],
            is_crowd=target.is_crowd[keep],
            identities=target.identities[keep],
        )
    return kept


def draw_color(probability: float, rng: np.random.Generator) -> tuple[Tensor, Tensor] | None:
    """Return a color change (matrix (3, 3), weight of the mean gray (3,)), or None; see `apply_color`.

    Brightness, contrast, saturation and the gains of the channels are drawn independently, each with `probability`.
    """
    is_drawn = rng.random(4) < probability
    brightness, contrast, saturation = (
        rng.uniform(*limits) if drawn else 1.0
        for limits, drawn in zip((BRIGHTNESS, CONTRAST, SATURATION), is_drawn[:3], strict=True)
    )
    gains = rng.uniform(*CHANNEL_GAIN, size=3) if is_drawn[3] else np.ones(3)
    if not is_drawn.any():
        return None
    return color_matrix(brightness, contrast, saturation, torch.from_numpy(gains).float())


def color_matrix(brightness: float, contrast: float, saturation: float, gains: Tensor) -> tuple[Tensor, Tensor]:
    """Return brightness, saturation, contrast (each as torchvision defines it) and gains (3,) as one linear map."""
    saturate = saturation * torch.eye(3) + (1 - saturation) * LUMA.expand(3, 3)
    return gains[:, None] * (contrast * brightness * saturate), gains * (1 - contrast) * brightness


def apply_color(image: Tensor, matrix: Tensor, mean_weight: Tensor) -> Tensor:
    """Return matrix @ rgb + mean_weight * (mean gray of the image), rounded and clipped to uint8.

    One pass instead of torchvision's one an operation (0.3 against 1.1 ms at 320x240), and one rounding. Saturation
    keeps gray, so the order of it and contrast is free but for clipping in between, which does not happen here.
    """
    pixels = image.as_subclass(Tensor).reshape(3, -1).float()
    offset = mean_weight * (LUMA @ pixels.mean(dim=1)) + 0.5
    return torch.addmm(offset[:, None], matrix, pixels).clamp_(0, 255).to(torch.uint8).reshape(image.shape)


def _draw_zoom(scale_jitter: tuple[float, float] | None, rng: np.random.Generator) -> float:
    """Return a zoom, log-uniform: halving is as likely as doubling."""
    if scale_jitter is None:
        return 1.0
    low, high = np.log(scale_jitter)
    return float(np.exp(rng.uniform(low, high)))


def _place(length: int, base: int, zoom: float, place: float) -> _Span:
    """Return how one axis of `length` pixels is zoomed, then cropped or padded to `base`; `place` in [0, 1)."""
    zoomed = _round(base * zoom)
    if zoomed <= base:
        return _Span(start=0, extent=length, size=zoomed, offset=int(place * (base - zoomed + 1)))
    extent = _round(length * base / zoomed)
    return _Span(start=int(place * (length - extent + 1)), extent=extent, size=base, offset=0)


def _round(side: float) -> int:
    return max(1, int(side + 0.5))


def _join_boxes(targets: dict[str, Target], canvas_size: tuple[int, int]) -> tv_tensors.BoundingBoxes:
    """Return the boxes of all targets as one tensor, so that they share whatever is drawn."""
    boxes = [target.boxes_xyxy for target in targets.values() if isinstance(target, BoxTarget)]
    return tv_tensors.BoundingBoxes(torch.cat([torch.zeros(0, 4), *boxes]), format="XYXY", canvas_size=canvas_size)


def _split_boxes(targets: dict[str, Target], boxes_xyxy: Tensor) -> dict[str, Target]:
    """Return the targets with the boxes that `_join_boxes` joined; all other fields are the same tensors."""
    remaining = boxes_xyxy.as_subclass(Tensor)
    moved: dict[str, Target] = {}
    for task, target in targets.items():
        if not isinstance(target, BoxTarget):
            moved[task] = target
            continue
        count = len(target.boxes_xyxy)
        moved[task] = BoxTarget(remaining[:count], target.labels, target.is_crowd, target.identities)
        remaining = remaining[count:]
    return moved
