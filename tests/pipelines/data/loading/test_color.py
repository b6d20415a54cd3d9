"""Color changes of images."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from pipelines.data.loading.color import apply_color, color_matrix, draw_color


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
@pytest.mark.parametrize("factor", [0.75, 1.2])
def test_color_matrix_equals_the_operation_of_torchvision(name: str, factor: float) -> None:
    image = torch.randint(60, 190, (3, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    factors = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0} | {name: factor}
    ours = apply_color(image, *color_matrix(**factors, gains=np.ones(3)))
    theirs = getattr(F, f"adjust_{name}")(image, factor)
    assert (ours.int() - theirs.int()).abs().max() <= 1


def test_gains_scale_channels_and_results_are_clipped() -> None:
    image = torch.full((3, 4, 5), 200, dtype=torch.uint8)
    ours = apply_color(image, *color_matrix(1.0, 1.0, 1.0, np.array([0.5, 1.0, 1.5])))
    assert ours[:, 0, 0].tolist() == [100, 200, 255]


def test_photometric_is_the_probability_of_each_change() -> None:
    assert all(draw_color(0.0, np.random.default_rng(seed)) is None for seed in range(20))
    assert all(draw_color(1.0, np.random.default_rng(seed)) is not None for seed in range(20))
    unchanged = sum(draw_color(0.5, np.random.default_rng(seed)) is None for seed in range(400))
    assert unchanged / 400 == pytest.approx(0.5**4, abs=0.04)
