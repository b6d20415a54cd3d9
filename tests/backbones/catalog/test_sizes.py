"""With a classifier for 1000 classes, a catalog row has the published number of parameters."""

import pytest
import timm
from torch import nn
from torchvision import models

from backbones.catalog.row import BackboneRow
from backbones.catalog.rows import CATALOG
from backbones.create import create_backbone
from backbones.meta_device import built_on_meta

PUBLISHED = {
    "alexnet": 61_100_840,
    "vgg11": 132_863_336,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
    "googlenet_bn": 6_624_904,
    "inception_v3": 23_834_568,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "preresnet50": 25_549_352,
    "wide_resnet50": 68_883_240,
    "resnext50": 25_028_904,
    "densenet121": 7_978_856,
    "se_resnet50": 28_088_024,
    "senet154": 115_088_984,
    "mobilenet_v1": 4_231_976,
    "mobilenet_v2": 3_504_872,
    "mobilenet_v3": 5_483_032,
    "mobilenet_v3_small": 2_542_856,
    "shufflenet_v2": 2_278_604,
    "shufflenet_v2_x0_5": 1_366_792,
    "nasnet_large": 88_753_150,
    "mnasnet": 4_383_312,
    "regnet_x": 5_157_512,
    "regnet_x_200mf": 2_684_792,
    "regnet_y": 4_344_144,
    "regnet_y_200mf": 3_162_996,
    "efficientnet_b0": 5_288_548,
    "efficientnet_v2_s": 21_458_488,
    "repvgg_a0": 9_108_968,
    "repvgg_b0": 15_817_960,
    "mobileone_s0": 5_293_272,
    "convnext_atto": 3_695_520,
    "convnext_femto": 5_217_784,
    "convnext_nano": 15_593_560,
    "convnext_tiny": 28_589_128,
    "convmixer": 21_110_248,
    "vit_tiny": 5_717_416,
    "vit_base": 86_567_656,
    "deit_tiny": 5_717_416,
    "deit_base": 86_567_656,
    "swin_tiny": 28_288_354,
}

TWINS = {
    **{name: name for name in ("vgg13", "vgg19", "vgg11_bn", "vgg13_bn", "densenet169", "densenet201")},
    **{f"efficientnet_b{size}": f"efficientnet_b{size}" for size in range(1, 8)},
    **{name: name for name in ("efficientnet_v2_m", "efficientnet_v2_l")},
    **{f"convnext_{size}": f"convnext_{size}" for size in ("small", "base", "large")},
    "swin_small": "swin_s",
    "swin_base": "swin_b",
}
"""Maps a row to a torchvision network of the same size, for which torchvision publishes the number of parameters."""

CHANGED = {"nlnet50": 25_609_792, "gcnet50": 26_056_032, "dcn_resnet50": 24_379_295}
"""Parameters measured on networks assembled from modules of timm and torchvision, without a classifier."""


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _with_classifier(row: BackboneRow) -> nn.Module:
    """Return the network of a row with its classifier, on the meta device."""
    with built_on_meta():
        if row.source == "timm":
            return timm.create_model(row.id, num_classes=1000)
        without = {"aux_logits": False, "init_weights": False} if row.id == "googlenet" else {}
        network: nn.Module = models.get_model(row.id, weights=None, **without)
        return network


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_row_has_the_published_number_of_parameters(name: str, published: int) -> None:
    assert _parameters(_with_classifier(CATALOG[name])) == published


@pytest.mark.parametrize(("name", "twin"), TWINS.items())
def test_row_has_the_number_of_parameters_that_torchvision_publishes(name: str, twin: str) -> None:
    published = models.get_model_weights(twin).DEFAULT.meta["num_params"]
    assert _parameters(_with_classifier(CATALOG[name])) == published


@pytest.mark.parametrize(("name", "measured"), CHANGED.items())
def test_resnet_with_surgery_has_as_many_parameters_as_the_network_it_becomes(name: str, measured: int) -> None:
    with built_on_meta():
        backbone = create_backbone(name)
    assert _parameters(backbone) == measured
