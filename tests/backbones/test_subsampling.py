"""The workaround for strided 1x1 convolutions with few channels, which corrupt memory in torch 2.15.0."""

import copy

import pytest
import torch
from torch import nn

from backbones.create import create_backbone
from backbones.meta_device import built_on_meta
from backbones.spec.design import DesignSpec
from backbones.subsampling import SubsampledConv2d, is_unsafe, subsample_first


@pytest.mark.parametrize(("channels", "stride", "groups"), [(3, 2, 1), (8, (2, 1), 2), (4, 3, 4)])
def test_outputs_and_gradients_equal_those_of_the_convolution(
    channels: int, stride: int | tuple[int, int], groups: int
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(channels, 8, 1, stride=stride, groups=groups)
    other = copy.deepcopy(plain)
    subsample_first(other)
    assert isinstance(other, SubsampledConv2d)
    images = torch.randn(2, channels, 11, 14)
    results = []
    for conv in (plain, other):
        own = images.clone().requires_grad_()
        output = conv(own)
        output.square().sum().backward()
        results.append((output, own.grad, conv.weight.grad, conv.bias.grad))
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(
    "network",
    ["repvgg_a0", DesignSpec.model_validate({"depths": (1, 1, 1, 1), "widths": (8, 12, 16, 16), "stem_width": 8})],
    ids=["repvgg_a0", "design"],
)
def test_no_backbone_contains_an_affected_convolution(network: str | DesignSpec) -> None:
    with built_on_meta():
        backbone = create_backbone(network)
    convolutions = [module for module in backbone.modules() if isinstance(module, nn.Conv2d)]
    unsafe = [module for module in convolutions if is_unsafe(module)]
    assert unsafe
    assert all(isinstance(module, SubsampledConv2d) for module in unsafe)
