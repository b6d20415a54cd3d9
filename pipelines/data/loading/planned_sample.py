"""An image with its targets while it is augmented: changes are planned first, then executed in one pass over pixels.

Legend: N boxes, H W size in pixels. Pixel 0 covers [0, 1]; boxes are xyxy and scale without any "+1".
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from heads.base import Target
from pipelines.data.loading.affine import Affine, enclosing_boxes, warp
from pipelines.data.loading.color import Color, apply_color
from pipelines.data.loading.target_boxes import join_boxes, sanitize, split_boxes

ImageSize = int | tuple[int, int]
"""`data.image_size`: the longer side, or (height, width) that images are fitted inside."""


def fitted_size(original_hw: tuple[int, int], image_size: ImageSize) -> tuple[int, int]:
    """Return (height, width) of an image fitted inside `image_size` with its aspect kept.

    Both sides are rounded half up, to at least 1 pixel and at most the limit. The scales of x and y therefore differ
    by at most half a pixel per side, and each is known exactly: new / original.
    """
    limits_hw = (image_size, image_size) if isinstance(image_size, int) else image_size
    scale = min(limit / side for limit, side in zip(limits_hw, original_hw, strict=True))
    height, width = (min(limit, _round(side * scale)) for limit, side in zip(limits_hw, original_hw, strict=True))
    return height, width


@dataclass(frozen=True)
class Span:
    """One axis of a zoom: source pixels [start, start + extent) become `size` pixels, placed at `offset`."""

    start: int
    extent: int
    size: int
    offset: int = 0


@dataclass(frozen=True)
class PlannedSample:
    """An image (3, H, W) uint8 with its targets, and the changes that are planned for both.

    Planned changes are executed together by `render`, in this order, regardless of the order of planning: crop and
    resize, color, padding, flips, affine map. So the image is resized once, from its original pixels; color changes
    touch few pixels and never the padding. The changes commute except for the place of a crop, which is drawn at random
    anyway; a flip that is planned after an affine map mirrors the map. With an affine map, nothing is cut before it is
    applied: pixels that a crop alone would remove can appear in the corners. A change that does not fit into the plan,
    such as a second zoom, renders the sample first and starts a new plan, in which earlier padding counts as part of
    the image.

    Attributes:
        canvas_hw: size of the rendered image.
        x: the planned zoom of the columns.
        y: the planned zoom of the rows.
        is_zoomed: whether an operation has planned a zoom; without one the image is resized to the canvas.
        affine: the planned affine map; its center is that of the zoomed image, or of the canvas if a crop is planned.
        scale_xy: factors by which earlier renderings have scaled x and y.
    """

    image: Tensor
    targets: dict[str, Target]
    canvas_hw: tuple[int, int]
    x: Span
    y: Span
    is_zoomed: bool = False
    is_hflipped: bool = False
    is_vflipped: bool = False
    affine: Affine | None = None
    color: Color | None = None
    scale_xy: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def start(cls, image: Tensor, targets: dict[str, Target], canvas_hw: tuple[int, int]) -> "PlannedSample":
        """Return a sample whose only planned change is the resize to the canvas."""
        height, width = image.shape[-2:]
        return cls(image, targets, canvas_hw, x=Span(0, width, canvas_hw[1]), y=Span(0, height, canvas_hw[0]))

    def zoomed(self, zoom: float, place_y: float, place_x: float) -> "PlannedSample":
        """Plan a zoom of the canvas by a factor, cropped or padded to the size of the canvas.

        Args:
            zoom: factor on the size that the canvas gives the image.
            place_y: place of the crop, or of the image in its padding, in [0, 1) from the first possible row to the
                last one; flips that are planned already are not counted.
            place_x: the same for the columns.
        """
        if self.is_zoomed:
            return self.render().zoomed(zoom, place_y, place_x)
        height, width = self.image.shape[-2:]
        return replace(
            self,
            y=_placed(height, self.canvas_hw[0], zoom, place_y),
            x=_placed(width, self.canvas_hw[1], zoom, place_x),
            is_zoomed=True,
        )

    def filling(self, size_hw: tuple[int, int], zoom: float, place_y: float, place_x: float) -> "PlannedSample":
        """Plan to fill a canvas of another size with a part of the image, without padding.

        Args:
            size_hw: size of the new canvas.
            zoom: factor on the size that the present canvas gives the image; it is raised to fill the new one.
            place_y: place of the part in [0, 1) from the first possible row to the last one.
            place_x: the same for the columns.
        """
        if self.is_zoomed or self.affine is not None:
            return self.render().filling(size_hw, zoom, place_y, place_x)
        enough = max(zoom, *(new / present for new, present in zip(size_hw, self.canvas_hw, strict=True)))
        y, x = (
            _part(length, present * enough, new, place)
            for length, present, new, place in zip(
                self.image.shape[-2:], self.canvas_hw, size_hw, (place_y, place_x), strict=True
            )
        )
        return replace(self, canvas_hw=size_hw, y=y, x=x, is_zoomed=True)

    def hflipped(self) -> "PlannedSample":
        """Plan to swap left and right."""
        affine = None if self.affine is None else self.affine.mirrored((-1, 1))
        return replace(self, is_hflipped=not self.is_hflipped, affine=affine)

    def vflipped(self) -> "PlannedSample":
        """Plan to swap top and bottom."""
        affine = None if self.affine is None else self.affine.mirrored((1, -1))
        return replace(self, is_vflipped=not self.is_vflipped, affine=affine)

    def mapped(self, affine: Affine) -> "PlannedSample":
        """Plan an affine map; it follows a map that is planned already."""
        return replace(self, affine=affine if self.affine is None else self.affine.then(affine))

    def recolored(self, color: Color) -> "PlannedSample":
        """Plan a color change."""
        return replace(self if self.color is None else self.render(), color=color)

    def repainted(self, change: Callable[[Tensor], Tensor]) -> "PlannedSample":
        """Return the rendered sample with other pixels; no box moves.

        Args:
            change: returns a new image for the rendered one, both (3, H, W) uint8. It must not modify its argument,
                which may be a cached image.
        """
        rendered = self.render()
        return replace(rendered, image=change(rendered.image))

    def with_targets(self, targets: dict[str, Target]) -> "PlannedSample":
        """Return the sample with other targets, in pixels of the image before the planned changes."""
        return replace(self, targets=targets)

    def render(self) -> "PlannedSample":
        """Return the sample with all planned changes executed; nothing is planned for the result.

        Boxes that lost too much are dropped, see `sanitize`.
        """
        if self.affine is not None:
            return self._mapped_by(self.affine)
        scale_xy = (self.x.size / self.x.extent, self.y.size / self.y.extent)
        moved = self._moved(join_boxes(self.targets))
        targets = sanitize(self.targets, split_boxes(self.targets, moved), scale_xy[0] * scale_xy[1])
        return self._rendered(self._drawn(), targets, scale_xy)

    def _rendered(self, image: Tensor, targets: dict[str, Target], scale_xy: tuple[float, float]) -> "PlannedSample":
        rendered = PlannedSample.start(image, targets, self.canvas_hw)
        return replace(rendered, scale_xy=(self.scale_xy[0] * scale_xy[0], self.scale_xy[1] * scale_xy[1]))

    def _mapped_by(self, affine: Affine) -> "PlannedSample":
        """Return the rendered sample if an affine map is planned."""
        (height, width), is_flipped = self.canvas_hw, (self.is_hflipped, self.is_vflipped)
        scale, start, offset, size = np.array(
            [[axis.size / axis.extent, axis.start, axis.offset, axis.size] for axis in (self.x, self.y)]
        ).T
        signs = np.where(is_flipped, -1.0, 1.0)
        mirror = np.where(is_flipped, [width, height], 0.0)
        center = signs * (offset + size / 2) + mirror
        shift = signs * (offset - scale * start) + mirror - center
        to_canvas = np.column_stack([affine.matrix * (signs * scale), affine.matrix @ shift + center + affine.shift_xy])
        boxes = join_boxes(self.targets)
        visible, whole = enclosing_boxes(boxes, to_canvas, self.canvas_hw, affine.box_rule)
        targets = sanitize(split_boxes(self.targets, whole), split_boxes(self.targets, visible), 1.0)
        image = warp(self.image, to_canvas, self.canvas_hw, affine.fill, self.color)
        lengths = np.linalg.norm(to_canvas[:, :2], axis=0)
        return self._rendered(image, targets, (float(lengths[0]), float(lengths[1])))

    def _drawn(self) -> Tensor:
        """Return the image with the planned changes, except for an affine map."""
        x, y, (height, width) = self.x, self.y, self.canvas_hw
        part = self.image[:, y.start : y.start + y.extent, x.start : x.start + x.extent]
        out: Tensor = F.resize_image(part, [y.size, x.size], antialias=True)
        if self.color is not None:
            out = apply_color(out, *self.color)
        if flipped := [-1] * self.is_hflipped + [-2] * self.is_vflipped:
            out = out.flip(flipped)
        if (y.size, x.size) == (height, width):
            return out
        top = height - y.size - y.offset if self.is_vflipped else y.offset
        left = width - x.size - x.offset if self.is_hflipped else x.offset
        canvas = out.new_zeros(3, height, width)
        canvas[:, top : top + y.size, left : left + x.size] = out
        return canvas

    def _moved(self, boxes_xyxy: Tensor) -> Tensor:
        """Return boxes (N, 4) after the same changes, clipped to the canvas.

        torchvision's functions for boxes do the same, but take 0.3 ms for their dispatch.
        """
        x, y, (height, width) = self.x, self.y, self.canvas_hw
        boxes = boxes_xyxy.numpy() - _float32(x.start, y.start, x.start, y.start)
        _clip(boxes, x.extent, y.extent)
        boxes *= _float32(*(x.size / x.extent, y.size / y.extent) * 2)
        if (y.size, x.size) != (height, width):
            boxes += _float32(x.offset, y.offset, x.offset, y.offset)
            _clip(boxes, width, height)
        if self.is_hflipped:
            boxes[:, [0, 2]] = -(boxes[:, [2, 0]] - np.float32(width))
        if self.is_vflipped:
            boxes[:, [1, 3]] = -(boxes[:, [3, 1]] - np.float32(height))
        return torch.from_numpy(boxes)


class SampleSource(Protocol):
    """Further samples of the split, for operations over several images."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def load(self, index: int) -> PlannedSample:
        """Return a sample as it is before the first operation; an operation draws `index` from its generator."""


class EmptySource:
    """A source without samples."""

    def __len__(self) -> int:
        return 0

    def load(self, index: int) -> PlannedSample:
        """Raise IndexError."""
        raise IndexError(index)


def _placed(length: int, base: int, zoom: float, place: float) -> Span:
    """Return how one axis of `length` pixels is zoomed, then cropped or padded to `base`; `place` in [0, 1)."""
    zoomed = _round(base * zoom)
    if zoomed <= base:
        return Span(start=0, extent=length, size=zoomed, offset=int(place * (base - zoomed + 1)))
    extent = _round(length * base / zoomed)
    return Span(start=int(place * (length - extent + 1)), extent=extent, size=base)


def _part(length: int, zoomed: float, size: int, place: float) -> Span:
    """Return the part of one axis of `length` pixels, which is zoomed to `zoomed`, that fills `size`."""
    extent = min(length, _round(length * size / zoomed))
    return Span(start=int(place * (length - extent + 1)), extent=extent, size=size)


def _clip(boxes_xyxy: NDArray[np.float32], width: int, height: int) -> None:
    boxes_xyxy[boxes_xyxy < 0] = 0
    np.minimum(boxes_xyxy, _float32(width, height, width, height), out=boxes_xyxy)


def _float32(*values: float) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


def _round(side: float) -> int:
    return max(1, int(side + 0.5))
