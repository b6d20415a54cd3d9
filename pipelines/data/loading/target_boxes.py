"""The boxes of all tasks of an image together, while its geometry changes.

Legend: N boxes. Boxes are xyxy in pixels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heads.base import Target

MIN_KEPT_AREA = 0.3
"""An object that keeps less of its area in a crop is dropped: the remaining part is often unrecognizable."""

MIN_SIDE_PX = 1.0
"""A box with a side below one input pixel has no content, and its logarithms and IoUs are noise."""


MIN_SEEN_PX = 0.5
"""A strip of an object beside a patch that is thinner has no pixel of its own."""


def sanitize(before: dict[str, Target], after: dict[str, Target], area_scale: float) -> dict[str, Target]:
    """Return `after` without boxes that kept less than 30 % of their area or are smaller than a pixel.

    Labels, crowd flags and identities stay with their boxes. A crowd region is kept even if little of it remains: its
    content is unknown, so it must not become background.

    Args:
        before: targets before the geometry.
        after: the same boxes after it, clipped to the image.
        area_scale: the factor by which the geometry scales areas.
    """
    kept: dict[str, Target] = dict(after)
    for task, target in after.items():
        boxes_xyxy, whole_xyxy = target.object_boxes_xyxy, before[task].object_boxes_xyxy
        if boxes_xyxy is None or whole_xyxy is None:
            continue
        # numpy takes a third of torch's time for a few boxes.
        width, height = _sides(boxes_xyxy)
        whole_width, whole_height = _sides(whole_xyxy)
        has_area = width * height >= MIN_KEPT_AREA * area_scale * (whole_width * whole_height)
        keep = (width >= MIN_SIDE_PX) & (height >= MIN_SIDE_PX) & (has_area | target.object_is_crowd.numpy())
        if not keep.all():
            kept[task] = target.with_objects(torch.from_numpy(keep))
    return kept


def _sides(boxes_xyxy: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return widths and heights, each (N,)."""
    boxes = boxes_xyxy.numpy()
    return boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]


def uncover(targets: dict[str, Target], patches_xyxy: Tensor) -> dict[str, Target]:
    """Return the targets of an image after patches (P, 4) have covered parts of it.

    A box becomes the smallest one around its visible part, without strips of less than half a pixel. Objects of which
    less than 30 % are visible are dropped; of crowd regions, those without a visible part.
    """
    cells_x, cells_y = (_cells(patches_xyxy[:, sides]) for sides in ([0, 2], [1, 3]))
    is_visible = ~(
        _inside(cells_y, patches_xyxy[:, [1, 3]])[:, :, None] & _inside(cells_x, patches_xyxy[:, [0, 2]])[:, None]
    ).any(dim=0)
    uncovered = dict(targets)
    for task, target in targets.items():
        boxes_xyxy = target.object_boxes_xyxy
        if boxes_xyxy is None:
            continue
        begins_x, ends_x = _overlap(boxes_xyxy[:, [0, 2]], cells_x)
        begins_y, ends_y = _overlap(boxes_xyxy[:, [1, 3]], cells_y)
        areas = (ends_y - begins_y)[:, :, None] * (ends_x - begins_x)[:, None] * is_visible
        whole_areas = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(dim=1)
        has_parts = (ends_y - begins_y >= MIN_SEEN_PX)[:, :, None] & (ends_x - begins_x >= MIN_SEEN_PX)[:, None]
        in_row, in_column = (has_parts & is_visible).any(dim=2), (has_parts & is_visible).any(dim=1)
        visible = torch.stack(
            [
                begins_x.where(in_column, torch.inf).amin(dim=1),
                begins_y.where(in_row, torch.inf).amin(dim=1),
                ends_x.where(in_column, -torch.inf).amax(dim=1),
                ends_y.where(in_row, -torch.inf).amax(dim=1),
            ],
            dim=1,
        )
        # Not multiplied: the product is rounded, and would drop some boxes of which exactly this share is visible.
        is_kept = areas.sum(dim=(1, 2)) / whole_areas >= MIN_KEPT_AREA
        is_whole = ~(has_parts & ~is_visible).any(dim=(1, 2))
        visible = boxes_xyxy.where(is_whole[:, None], visible)
        has_size = (visible[:, 2:] - visible[:, :2] >= MIN_SIDE_PX).all(dim=1)
        uncovered[task] = target.with_object_boxes(visible).with_objects(has_size & (is_kept | target.object_is_crowd))
    return uncovered


def _cells(intervals: Tensor) -> Tensor:
    """Return the cells (C, 2) into which the ends of intervals (P, 2) divide an axis."""
    ends = intervals.float().flatten().sort().values
    ends = torch.cat([ends.new_tensor([-1e9]), ends, ends.new_tensor([1e9])])
    return torch.stack([ends[:-1], ends[1:]], dim=1)


def _inside(cells: Tensor, intervals: Tensor) -> Tensor:
    """Return whether each cell (C, 2) is in each interval (P, 2) as (P, C) bool."""
    return (cells[:, 0] >= intervals[:, :1]) & (cells[:, 1] <= intervals[:, 1:])


def _overlap(intervals: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Return begin and end (N, C) of the part of each interval (N, 2) in each cell (C, 2); equal where it is empty."""
    begins = intervals[:, :1].maximum(cells[:, 0])
    return begins, intervals[:, 1:].minimum(cells[:, 1]).maximum(begins)


def move_boxes(targets: dict[str, Target], left: float, top: float) -> dict[str, Target]:
    """Return the targets with all boxes moved to the right and down."""
    moved = dict(targets)
    for task, target in targets.items():
        if target.object_boxes_xyxy is not None:
            boxes_xyxy = target.object_boxes_xyxy
            moved[task] = target.with_object_boxes(boxes_xyxy + boxes_xyxy.new_tensor([left, top, left, top]))
    return moved


def join_boxes(targets: dict[str, Target]) -> Tensor:
    """Return the boxes (N, 4) of all targets as one tensor, so that all tasks share every random change."""
    boxes = [boxes for target in targets.values() if (boxes := target.object_boxes_xyxy) is not None]
    return torch.cat([torch.zeros(0, 4), *boxes])


def split_boxes(targets: dict[str, Target], boxes_xyxy: Tensor) -> dict[str, Target]:
    """Return the targets with the boxes that `join_boxes` joined; all other fields are the same tensors."""
    remaining = boxes_xyxy
    moved: dict[str, Target] = {}
    for task, target in targets.items():
        if target.object_boxes_xyxy is None:
            moved[task] = target
            continue
        count = len(target.object_boxes_xyxy)
        moved[task] = target.with_object_boxes(remaining[:count])
        remaining = remaining[count:]
    return moved
