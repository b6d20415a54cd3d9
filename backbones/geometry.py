"""Strides of maps, derived from their sizes.

An unpadded convolution or pooling layer loses cells at the border: Inception v3 turns 256 rows into 29, 14 and 6,
although its strides of 8, 16 and 32 would give 32, 16 and 8. The number of lost cells does not depend on the image
size.
"""

import math
from collections.abc import Collection, Sequence

PYRAMID_STRIDES = (8, 16, 32)

PROBE_HW = (512, 640)
"""Image size for measurements: large enough that lost cells do not hide a stride, and not square."""

MAX_LOST_CELLS = 4


def stride_of(image_hw: Sequence[int], map_hw: Sequence[int]) -> int | None:
    """Return the stride, a power of two, of a map of size `map_hw` for an image of size `image_hw`, or None.

    A map may lack up to `MAX_LOST_CELLS` cells per axis. The result is None for a single row or column, which is the
    output of global pooling.
    """
    if min(map_hw) < 2:
        return None
    stride: int = 2 ** round(math.log2(image_hw[0] / map_hw[0]))
    lost = lost_cells(image_hw, map_hw, stride)
    return stride if all(0 <= cells <= MAX_LOST_CELLS for cells in lost) else None


def require_pyramid_strides(strides: Collection[int]) -> None:
    """Raise a ValueError that suggests other networks unless `strides` has 8, 16 and 32."""
    lacking = [stride for stride in PYRAMID_STRIDES if stride not in strides]
    if lacking:
        raise ValueError(
            f"its maps have strides {sorted(set(strides))}, but not {lacking}; a pyramid needs 8, 16 and 32: choose a "
            f"network with stages, such as resnet50, convnext_tiny or swin_tiny"
        )


def lost_cells(image_hw: Sequence[int], map_hw: Sequence[int], stride: int) -> tuple[int, int]:
    """Return the rows and columns that a map lacks: image size / stride - map size."""
    return image_hw[0] // stride - map_hw[0], image_hw[1] // stride - map_hw[1]
