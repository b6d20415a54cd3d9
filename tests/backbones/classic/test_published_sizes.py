"""Own networks compared with the originals: parameters, map sizes, and gradients."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import nn

from backbones.classic.alexnet_zfnet import alexnet2012, zfnet, zfnet_wide
from backbones.classic.convnext_isotropic import ConvNeXtIsotropic
from backbones.classic.inception import bn_inception, googlenet
from backbones.classic.nin import NiN
from backbones.meta_device import built_on_meta
from backbones.own_adapter import PYRAMIDS

IMAGES = torch.randn(2, 3, 128, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("build", "classifier_widths", "published"),
    [
        (alexnet2012, (256 * 6 * 6, 4096, 4096, 1000), 60_965_224),
        (zfnet, (), 3_726_464),
        (zfnet_wide, (), 11_247_744),
        (lambda: NiN(width=1000), (), 7_439_608),
        (googlenet, (), 5_973_552),
        (googlenet, (1024, 1000), 6_998_552),
        (bn_inception, (), 10_270_240),
        (bn_inception, (1024, 1000), 11_295_240),
        (ConvNeXtIsotropic, (384, 1000), 22_308_712),
    ],
)
def test_number_of_parameters_equals_the_published_one(
    build: Callable[[], nn.Module], classifier_widths: tuple[int, ...], published: int
) -> None:
    with built_on_meta():
        classifier = [nn.Linear(*widths) for widths in itertools.pairwise(classifier_widths)]
        network = nn.ModuleList([build(), *classifier])
    assert sum(parameter.numel() for parameter in network.parameters()) == published


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("alexnet2012", (256, 256, 256)),
        ("zfnet", (256, 256, 256)),
        ("zfnet_wide", (256, 512, 512)),
        ("nin", (256, 384, 512)),
        ("googlenet", (480, 832, 1024)),
        ("bn_inception", (320, 608, 1024)),
    ],
)
def test_map_size_is_image_size_divided_by_stride(name: str, channels: tuple[int, ...]) -> None:
    with built_on_meta():
        network = PYRAMIDS[name]().eval()
    for height, width in ((256, 320), (32, 32), (992, 32)):
        maps = network(torch.empty(1, 3, height, width, device="meta"))
        assert [tuple(feature.shape) for feature in maps] == [
            (1, width_c, height // stride, width // stride)
            for width_c, stride in zip(channels, (8, 16, 32), strict=True)
        ]


@pytest.mark.parametrize("name", PYRAMIDS)
def test_activations_of_a_new_network_neither_vanish_nor_explode(name: str) -> None:
    torch.manual_seed(0)
    for feature in PYRAMIDS[name]()(IMAGES):
        assert 0.3 < feature.std() < 5
        assert (feature > 0).float().mean() > 0.2


@pytest.mark.parametrize("name", PYRAMIDS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    network = PYRAMIDS[name]()
    torch.stack([feature.square().mean() for feature in network(IMAGES)]).sum().backward()
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []
    assert all(parameter.grad.abs().max() > 0 for parameter in network.parameters() if parameter.ndim > 1)
