"""Receptive fields of cells, measured by setting columns of an image to NaN."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backbones.base import Backbone
from backbones.create import create_backbone
from backbones.geometry import stride_of


def _first_true(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the smallest number in low..high for which `holds` is true; it stays true from there on."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _seen_columns(backbone: Backbone, level: str, column: int, width: int) -> tuple[int, int]:
    """Return the first image column that a cell of `level` depends on, and the last one plus 1."""
    images = torch.rand(1, 3, 96, width)

    def is_touched(first: int, end: int) -> bool:
        poisoned = images.clone()
        poisoned[..., first:end] = float("nan")
        with torch.no_grad():
            return bool(backbone(poisoned)[level][..., column].isnan().any())

    first = _first_true(0, width, lambda end: is_touched(0, end)) - 1
    end = width + 1 - _first_true(0, width, lambda count: is_touched(width - count, width))
    return first, end


@pytest.mark.parametrize(
    ("name", "level", "width", "bias"),
    [
        ("convnext_atto", "c3", 256, 0.0),
        ("alexnet", "c3", 256, None),
        ("inception_v3", "c3", 256, None),
        ("resnet14_thin", "c3", 256, -3.5),
        ("resnet14_thin", "c5", 768, -15.5),
        ("tf_efficientnet_lite0", "c3", 256, 3.5),
        pytest.param("tf_efficientnet_lite0", "c5", 1536, 15.5, marks=pytest.mark.slow),
    ],
)
def test_receptive_field_is_centered_as_its_spec_states(name: str, level: str, width: int, bias: float | None) -> None:
    """Padded convolutions with stride 2 are off by up to half a cell (bias, computed by hand): to the left with
    symmetric padding, and by as much to the right with TensorFlow's, which pads more on the right."""
    torch.manual_seed(0)
    backbone = create_backbone(name).eval()
    spec = backbone.feature_specs[level]
    column = int(width / spec.stride / 2)
    first, end = _seen_columns(backbone, level, column, width)
    assert 0 < first < end < width, "the image is too small for the receptive field"
    deviation = (first + end) / 2 - (spec.offset_px + (column + 0.5) * spec.stride)
    assert abs(deviation) <= spec.stride / 2
    if bias is not None:
        assert deviation == bias


@given(st.sampled_from([4, 8, 16, 32]), st.integers(0, 4), st.integers(0, 4))
def test_stride_is_found_even_if_border_cells_are_lost(stride: int, rows: int, columns: int) -> None:
    assert stride_of((512, 640), (512 // stride - rows, 640 // stride - columns)) == stride


@pytest.mark.parametrize("map_hw", [(80, 192), (64, 64), (1, 1), (0, 0), (37, 37), (66, 80)])
def test_stride_is_none_for_the_output_of_global_pooling(map_hw: tuple[int, int]) -> None:
    assert stride_of((512, 640), map_hw) is None
