"""Centers of the cells of feature levels in image pixels, and the anchor boxes on them.

Legend: H W size of a level, L levels, A anchors per cell.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from heads.base import LevelSpec
from heads.detection_spec import AnchorHeadSpec


def cell_centers(
    size_hw: tuple[int, int], spec: LevelSpec, device: torch.device | None = None, *, cell_offset: float = 0.5
) -> Tensor:
    """Return a point of each cell (H * W, 2) as x, y in input pixels, row by row: by default the cell centers.

    It is offset_px + (i + cell_offset) * stride.
    """
    height, width = size_hw
    ys = (torch.arange(height, device=device, dtype=torch.float32) + cell_offset) * spec.stride + spec.offset_px
    xs = (torch.arange(width, device=device, dtype=torch.float32) + cell_offset) * spec.stride + spec.offset_px
    return torch.stack((xs.expand(height, width), ys[:, None].expand(height, width)), dim=2).reshape(-1, 2)


def anchor_shapes(stride: float, scale: float, scales_per_octave: int, aspect_ratios: Sequence[float]) -> Tensor:
    """Return width and height (A, 2) in pixels of a level's anchors, ordered by scale, then by ratio.

    The side of a square anchor is scale * stride * 2**(j / scales_per_octave) (Lin et al. 2017, arXiv 1708.02002,
    section 4); a ratio is height / width at the same area.
    """
    return shapes_of_sides(
        [scale * stride * 2 ** (j / scales_per_octave) for j in range(scales_per_octave)], aspect_ratios
    )


def shapes_of_sides(sides: Sequence[float], aspect_ratios: Sequence[float]) -> Tensor:
    """Return width and height (A, 2) in pixels of anchors with the areas of squares, by their sides, then by ratio."""
    return torch.tensor([(side / math.sqrt(r), side * math.sqrt(r)) for side in sides for r in aspect_ratios])


def shapes_of_levels(spec: AnchorHeadSpec, level_specs: Mapping[str, LevelSpec]) -> Tensor:
    """Return width and height (L, A, 2) in pixels of the anchors of each level, ordered by size, then by ratio."""
    if spec.anchor_sizes is None:
        shapes = [
            anchor_shapes(level_spec.stride, spec.anchor_scale, spec.scales_per_octave, spec.aspect_ratios)
            for level_spec in level_specs.values()
        ]
    else:
        shapes = [shapes_of_sides(sides, spec.aspect_ratios) for sides in spec.anchor_sizes]
    stacked = torch.stack(shapes)
    return 2 * (stacked / 2).round() if spec.round_anchors else stacked


def grid_anchors(size_hw: tuple[int, int], spec: LevelSpec, shapes_wh: Tensor, *, cell_offset: float = 0.5) -> Tensor:
    """Return anchors xyxy (H * W * A, 4): every shape (A, 2) on every cell, ordered by cell, not clipped."""
    centers = cell_centers(size_hw, spec, shapes_wh.device, cell_offset=cell_offset)[:, None]
    half = shapes_wh[None] / 2
    return torch.cat((centers - half, centers + half), dim=2).reshape(-1, 4)
