"""Small pyramids and targets for the heads."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from heads.base import BoxTarget


@dataclass(frozen=True)
class Level:
    """Geometry of a level, as in the `feature_specs` of backbones and necks."""

    channels: int
    stride: float
    offset_px: float = 0.0


SIZE_HW = (64, 96)
SPECS = {
    **{f"c{k}": Level(4 * 2 ** (k - 3), 2.0**k) for k in (3, 4, 5)},
    **{f"p{k}": Level(12, 2.0**k) for k in range(3, 8)},
}


@pytest.fixture
def level_specs() -> dict[str, Level]:
    """Levels c3 to c5 with 4, 8, 16 channels, and p3 to p7 with 12."""
    return dict(SPECS)


@pytest.fixture
def make_features() -> Callable[..., dict[str, Tensor]]:
    """Return a function that creates random features, which require gradients, of `batch` images of 64 x 96 pixels."""

    def make(batch: int = 2, seed: int = 0) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return {
            level: torch.randn(
                batch,
                spec.channels,
                -(-SIZE_HW[0] // int(spec.stride)),
                -(-SIZE_HW[1] // int(spec.stride)),
                generator=generator,
            ).requires_grad_()
            for level, spec in SPECS.items()
        }

    return make


@pytest.fixture
def box_target() -> Callable[..., BoxTarget]:
    """Return a function that creates a target of boxes xyxy; by default labels 0, no crowds, identities 0, 1, ..."""

    def make(
        boxes: list[tuple[float, float, float, float]],
        labels: list[int] | None = None,
        crowd: list[bool] | None = None,
        identities: list[int] | None = None,
    ) -> BoxTarget:
        count = len(boxes)
        return BoxTarget(
            torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            torch.tensor(labels if labels is not None else [0] * count, dtype=torch.int64),
            torch.tensor(crowd if crowd is not None else [False] * count, dtype=torch.bool),
            torch.tensor(identities if identities is not None else list(range(count)), dtype=torch.int64),
        )

    return make
