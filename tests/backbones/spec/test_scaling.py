"""Compound scaling: depth, width and image size by one coefficient."""

import pytest
import timm
import torch

from backbones.design_space.network import DesignNetwork
from backbones.meta_device import built_on_meta
from backbones.spec.design import DesignSpec
from backbones.spec.design_plan import scale_depth, scale_width
from backbones.spec.design_presets import PRESETS

B0 = PRESETS["efficientnet_b0"]

# Tan & Le 2019, arXiv 1905.11946, as published with the weights: width and depth of B1 to B7 over those of B0.
PUBLISHED = [(1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8), (1.6, 2.2), (1.8, 2.6), (2.0, 3.1)]


def trunk(network: torch.nn.Module) -> list[int]:
    """Return the number of elements of every parameter, without the head."""
    named = network.named_parameters()
    return sorted(p.numel() for name, p in named if not name.startswith(("conv_head", "bn2", "classifier")))


def efficientnet(number: int) -> torch.nn.Module:
    network: torch.nn.Module = timm.create_model(f"efficientnet_b{number}")
    return network


@pytest.mark.parametrize("number", range(1, 8))
def test_widths_and_depths_are_rounded_as_in_the_published_family(number: int) -> None:
    width, depth = PUBLISHED[number - 1]
    scaled = {
        "stem_width": scale_width(B0["stem_width"], width),
        "widths": [scale_width(one, width) for one in B0["widths"]],
        "depths": [scale_depth(one, depth) for one in B0["depths"]],
    }
    with built_on_meta():
        ours = DesignNetwork(DesignSpec.model_validate({"preset": "efficientnet_b0", **scaled}))
        assert trunk(ours) == trunk(efficientnet(number))


# The published factors are not powers of one coefficient: B5 to B7 are wider than any coefficient of their depth gives.
@pytest.mark.parametrize(
    ("coefficient", "number", "image_px"), [(0.1, 1, 227), (1, 2, 258), (2, 3, 296), (3.53, 4, 367)]
)
def test_one_coefficient_gives_the_published_networks_up_to_b4(coefficient: float, number: int, image_px: int) -> None:
    spec = DesignSpec.model_validate({"preset": "efficientnet_b0", "compound": coefficient})
    assert spec.image_size_px == image_px
    with built_on_meta():
        assert trunk(DesignNetwork(spec)) == trunk(efficientnet(number))


def test_coefficient_of_zero_changes_nothing() -> None:
    odd = DesignSpec(depths=(1, 2, 3), widths=(13, 21, 35), strides=(2, 2, 2))
    assert odd.image_size_px == 224
    assert [stage.out_channels for stage in odd.stages] == [13, 21, 35]
    assert [len(stage.blocks) for stage in odd.stages] == [1, 2, 3]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_scaled(name: str) -> None:
    base, scaled = (DesignSpec.model_validate({"preset": name, "compound": phi}) for phi in (0, 2))
    for small, large in zip(base.stages, scaled.stages, strict=True):
        assert len(large.blocks) == scale_depth(len(small.blocks), 1.44)
        assert large.out_channels >= small.out_channels
