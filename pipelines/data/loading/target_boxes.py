"""The boxes of all tasks of an image together, while its geometry changes.

Legend: N boxes. Boxes are xyxy in pixels.
"""

import torch
from torch import Tensor
from torchvision import tv_tensors

from heads.base import Target

MIN_KEPT_AREA = 0.3
"""An object that keeps less of its area in a crop is dropped: the remaining part is often unrecognizable."""

MIN_SIDE_PX = 1.0
"""A box with a side below one input pixel has no content, and its logarithms and IoUs are noise."""


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
        sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
        whole_sides = whole_xyxy[:, 2:] - whole_xyxy[:, :2]
        has_area = sides.prod(dim=1) >= MIN_KEPT_AREA * area_scale * whole_sides.prod(dim=1)
        keep = (sides >= MIN_SIDE_PX).all(dim=1) & (has_area | target.object_is_crowd)
        kept[task] = target.with_objects(keep)
    return kept


def join_boxes(targets: dict[str, Target], canvas_size: tuple[int, int]) -> tv_tensors.BoundingBoxes:
    """Return the boxes of all targets as one tensor, so that all tasks share every random change."""
    boxes = [boxes for target in targets.values() if (boxes := target.object_boxes_xyxy) is not None]
    return tv_tensors.BoundingBoxes(torch.cat([torch.zeros(0, 4), *boxes]), format="XYXY", canvas_size=canvas_size)


def split_boxes(targets: dict[str, Target], boxes_xyxy: Tensor) -> dict[str, Target]:
    """Return the targets with the boxes that `join_boxes` joined; all other fields are the same tensors."""
    remaining = boxes_xyxy.as_subclass(Tensor)
    moved: dict[str, Target] = {}
    for task, target in targets.items():
        if target.object_boxes_xyxy is None:
            moved[task] = target
            continue
        count = len(target.object_boxes_xyxy)
        moved[task] = target.with_object_boxes(remaining[:count])
        remaining = remaining[count:]
    return moved
