"""Images and boxes for comparisons with the detectors of torchvision."""

import torch
from torch import Tensor, nn

from heads.base import BoxTarget

SIZE_HW = (128, 256)


def parity_images() -> Tensor:
    """Return three images, uint8."""
    random = torch.Generator().manual_seed(1)
    coarse = torch.rand((3, 3, 8, 16), generator=random)
    smooth = nn.functional.interpolate(coarse, SIZE_HW, mode="bilinear")
    return (255 * (smooth + 0.1 * torch.rand(smooth.shape, generator=random)).clamp(0, 1)).to(torch.uint8)


def parity_targets() -> list[BoxTarget]:
    """Return boxes of several sizes; the second image has none."""
    rows = [
        [[10, 12, 31, 40], [60, 20, 118, 71], [130, 4, 243, 117], [200, 90, 222, 101]],
        [],
        [[5, 3, 252, 124], [40, 60, 75, 83]],
    ]
    labels = ([0, 1, 2, 1], [], [2, 0])
    return [
        BoxTarget(
            torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            torch.tensor(of, dtype=torch.int64),
            torch.zeros(len(of), dtype=torch.bool),
            torch.full((len(of),), -1),
        )
        for boxes, of in zip(rows, labels, strict=True)
    ]


def in_unit_range(images: Tensor) -> list[Tensor]:
    """Return the images as torchvision takes them: a list, in 0..1."""
    return list((images.float() / 255).unbind())
