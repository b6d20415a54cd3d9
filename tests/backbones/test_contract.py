"""The backbone contract on the meta device: shapes and gradients, no arithmetic.

By default for the lightest row of each family, and for all others in `make test-slow`: building a network takes seconds
even without its numbers.

Tests that need numbers are in test_contract_for_real.py.
"""

import math

import pytest
import torch
from torch import Tensor, nn

from backbones.base import LEVELS
from backbones.create import TappedBackbone, create_backbone
from backbones.meta_device import ShapesOnly, built_on_meta
from backbones.simple_pyramid import SingleScaleExtractor
from tests.backbones.sizes import rows_by_speed

OTHERS = (
    "timm:nf_regnet_b0",
    "timm:hrnet_w18_small",
    "timm:swinv2_tiny_window8_256",
    "timm:inception_v4",
    "tv:mobilenet_v3_small",
    "tv:swin_t",
)
"""Families of both libraries without a row in the catalog, or with a row from the other library."""


@pytest.fixture(scope="module", params=[*rows_by_speed(math.inf), *OTHERS])
def backbone(request: pytest.FixtureRequest) -> TappedBackbone:
    """One backbone per row; pytest groups the tests of a row, so each backbone is built once."""
    with built_on_meta():
        return create_backbone(request.param)


def _maps(backbone: TappedBackbone, image_hw: tuple[int, int]) -> dict[str, Tensor]:
    """Return the maps of one image, after checking them against the specs."""
    with ShapesOnly():
        features = backbone(torch.empty(1, 3, *image_hw, device="meta"))
    assert tuple(features) == tuple(backbone.feature_specs) == LEVELS
    for level, feature in features.items():
        spec = backbone.feature_specs[level]
        assert (spec.stride, spec.offset_px) == (2 ** int(level[1]), 0)
        cells = [-(-side // 32) * 32 // spec.stride for side in image_hw]
        assert feature.shape == (1, spec.channels, *cells)
    return features


def _reached(feature: Tensor, parameters: dict[str, nn.Parameter]) -> set[str]:
    """Return the names of `parameters` that get a gradient from a map; autograd stops at the deepest of them."""
    if not parameters:
        return set()
    gradients = torch.autograd.grad(feature.sum(), list(parameters.values()), allow_unused=True)
    return {name for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None}


def test_levels_have_the_channels_and_strides_of_their_specs(backbone: TappedBackbone) -> None:
    with torch.inference_mode():
        _maps(backbone.eval(), (256, 320))


def _of_stages(backbone: TappedBackbone, *stages: str) -> set[str]:
    return {name for name, stage in backbone.stages.items() if stage in stages}


def _check_stages_by_level(backbone: TappedBackbone, features: dict[str, Tensor]) -> None:
    """Check that a level reaches all parameters of its stage and no parameter of a later stage."""
    left = dict(backbone.named_parameters())
    for level in LEVELS:
        reached = _reached(features[level], left)
        assert reached == _of_stages(backbone, level)
        left = {name: parameter for name, parameter in left.items() if name not in reached}
    assert left == {}


def _check_stages_by_depth(backbone: TappedBackbone, frozen: tuple[str, ...]) -> None:
    """Check that trainable parameters get gradients, and that outputs of frozen modules require none."""
    trained = {n: p for n, p in backbone.named_parameters() if backbone.stages[n] not in frozen}
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name in trained)
    frozen_modules = [
        module
        for module in backbone.modules()
        if (parameters := list(module.parameters())) and not any(parameter.requires_grad for parameter in parameters)
    ]
    assert len(frozen_modules) >= 10 * len(frozen)
    below: list[bool] = []
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: below.append(output.requires_grad))
        for module in frozen_modules
    ]
    features = _maps(backbone, (256, 320))
    assert _reached(torch.cat([feature.flatten() for feature in features.values()]), trained) == trained.keys()
    assert len(below) >= len(frozen_modules)
    assert not any(below)
    for hook in hooks:
        hook.remove()
    backbone.requires_grad_()


def test_one_image_of_odd_size_trains_each_parameter_and_stages_are_disjoint_and_complete(
    backbone: TappedBackbone,
) -> None:
    """If the stages from c3 on are frozen, no backward pass runs below the lowest trainable stage. In a single-scale
    network a stage is a part of the depth, on all of which every level depends."""
    assert list(backbone.stages) == [name for name, _ in backbone.named_parameters()]
    features = _maps(backbone.train(), (250, 333))
    if isinstance(backbone.body, SingleScaleExtractor):
        for frozen in ((), ("c3",), ("c3", "c4")):
            _check_stages_by_depth(backbone, frozen)
    else:
        _check_stages_by_level(backbone, features)


def test_state_dict_has_every_parameter_and_loads_again(backbone: TappedBackbone) -> None:
    """test_contract_for_real.py shows that its values determine the maps of a second network."""
    state = backbone.state_dict()
    assert backbone.stages.keys() <= state.keys()
    backbone.load_state_dict(state)
    assert {name: value.shape for name, value in backbone.state_dict().items()} == {
        n: v.shape for n, v in state.items()
    }
