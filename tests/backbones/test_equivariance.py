"""Shifted images produce shifted maps: by default for the lightest row of each family, in `make test-slow` for all.

The image is 1024 pixels long (2048 for heavy rows) and shifts by 32 pixels, so c3, c4 and c5 shift by 4, 2 and 1 cells.
Only the middle eighth is compared, where the influence of the image ends has faded, although the receptive fields of
most networks reach further (c5 of Inception v3 still deviates by 1e-4 at 480 pixels from the end).
"""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from backbones.catalog.rows import CATALOG
from backbones.create import create_backbone
from tests.backbones.sizes import lightest_of_families

SHIFT_PX, HEIGHT_PX = 32, 96
LIGHT_PX, HEAVY_PX = 1024, 2048
LIMIT = 2e-4
"""Relative to the largest absolute value of the map."""

LIGHT = lightest_of_families(up_to_giga_macs=2.5)
EQUIVARIANT = [
    pytest.param(name, marks=() if name in LIGHT else pytest.mark.slow, id=name)
    for name, row in CATALOG.items()
    if row.is_equivariant
]


def _randomize(network: nn.Module, images: Tensor) -> None:
    """Draw parameters that start at 0 or 1 and could hide an error (norms, layer scales, biases, offsets of deformable
    convolutions), and statistics that differ moderately from those of `images`."""
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(std=0.1)
        elif parameter.ndim < 2:
            parameter.uniform_(0.5, 1.5)
        elif not parameter.any():
            parameter.normal_(std=1e-3)
    with_statistics = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    for module in with_statistics:
        module.momentum = 1.0
    network.train()(images)
    for module in with_statistics:
        module.running_mean += 0.1 * module.running_var.sqrt() * torch.randn_like(module.running_var)
        module.running_var *= torch.empty_like(module.running_var).uniform_(0.5, 1.5)


def _deviations(name: str) -> dict[str, float]:
    """Return by level the deviation between the map of a shifted image and the shifted map, relative to the largest
    value."""
    torch.manual_seed(0)
    backbone = create_backbone(name)
    length_px = LIGHT_PX if name in LIGHT else HEAVY_PX
    image = torch.randn(1, 3, HEIGHT_PX, length_px + SHIFT_PX)
    with torch.no_grad():
        _randomize(backbone, image[..., :256])
        features = backbone.eval()(torch.cat([image[..., :length_px], image[..., SHIFT_PX:]]))
    return {
        level: _deviation(feature, SHIFT_PX // int(backbone.feature_specs[level].stride))
        for level, feature in features.items()
    }


def _deviation(feature: Tensor, shift: int) -> float:
    cells = feature.shape[-1]
    middle = slice(7 * cells // 16, 9 * cells // 16)
    here, beside, shifted = feature[0, ..., middle], feature[1, ..., middle], feature[0, ..., shift:][..., middle]
    largest = feature.abs().max()
    assert (here - beside).abs().max() > 10 * LIMIT * largest, "the map is the same everywhere"
    return float((shifted - beside).abs().max() / largest)


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_shift_by_32_pixels_shifts_the_maps_by_4_2_and_1_cells(name: str) -> None:
    deviations = _deviations(name)
    assert max(deviations.values()) < LIMIT, deviations


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "regnet_y_200mf", "vit_tiny"])
def test_networks_marked_as_not_equivariant_do_not_shift(name: str) -> None:
    """Squeeze-and-excitation pools globally, and a transformer has position embeddings."""
    assert not CATALOG[name].is_equivariant
    assert max(_deviations(name).values()) > 10 * LIMIT
