"""Folded networks give the same maps, and norms that cannot be folded stay."""

import copy

import pytest
import torch
from torch import Tensor, nn

from backbones.catalog.rows import CATALOG
from backbones.create import create_backbone
from backbones.fpn import FPN
from backbones.spec.surgery import SurgerySpec
from backbones.surgery.norm_folding import fold_norms

LIGHT = ("densenet121", "efficientnet_b0", "mobilenet_v2", "resnet14_thin", "repvgg_a0")
"""Light rows of different orders of layers; all others are tested by `make test-slow`."""


def _with_statistics(network: nn.Module) -> nn.Module:
    """Return the network in eval mode, with random scales, and with the statistics of random images."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(getattr(module, "running_var", None), Tensor):
            for name, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
                getattr(module, name).data.uniform_(low, low + 1)
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(2, 3, 128, 128))
    return network.eval()


def _assert_same_maps(folded: nn.Module, network: nn.Module) -> None:
    """Compare with float64, since deep random networks amplify rounding, also that of the unfolded network."""
    images = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        plain, found = network(images), folded(images)
        exact = copy.deepcopy(network).double()(images.double())
    for level, feature in exact.items():
        limit = 10 * (plain[level] - feature).abs().max() + 1e-5 * feature.abs().max()
        assert (found[level] - feature).abs().max() <= limit, level


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in LIGHT else (pytest.mark.slow, pytest.mark.timeout(600)))
        for name in CATALOG
    ],
)
def test_folded_rows_of_the_catalog_give_the_same_maps(name: str) -> None:
    network = _with_statistics(create_backbone(name))
    folded = copy.deepcopy(network)
    fold_norms(folded)
    _assert_same_maps(folded, network)


def _num_norms(network: nn.Module) -> int:
    return sum("running_var" in dict(module.named_buffers(recurse=False)) for module in network.modules())


@pytest.mark.parametrize(
    ("name", "surgery", "num_left"),
    [
        ("resnet14_thin", {}, 0),
        ("tf_efficientnet_lite0", {}, 0),
        ("resnet14_thin", {"freeze_batchnorm": True}, 0),
        ("tv:mobilenet_v2", {}, 0),
    ],
)
def test_every_norm_after_a_convolution_is_folded(name: str, surgery: dict[str, object], num_left: int) -> None:
    network = _with_statistics(create_backbone(name, surgery=SurgerySpec.model_validate(surgery)))
    folded = copy.deepcopy(network)
    assert fold_norms(folded) == _num_norms(network) - num_left
    assert _num_norms(folded) == num_left
    _assert_same_maps(folded, network)


class _SharedConvolution(nn.Module):
    """The convolutions `a` and `b` cannot be folded: the result of `a` has a second use, and `b` runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 3, 1) for _ in range(3))
        self.norm_a, self.norm_b, self.norm_c = (nn.BatchNorm2d(3) for _ in range(3))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        first = self.a(images)
        summed = self.norm_a(first) + first
        return {"c3": self.norm_b(self.b(summed)) + self.b(images), "c4": self.norm_c(self.c(images))}


def test_convolution_with_another_use_keeps_its_norm() -> None:
    network = _with_statistics(_SharedConvolution())
    folded = copy.deepcopy(network)
    assert fold_norms(folded) == 1
    assert isinstance(folded.norm_c, nn.Identity)
    _assert_same_maps(folded, network)


def test_norms_of_the_pyramid_are_folded() -> None:
    backbone = create_backbone("resnet14_thin")
    network = _with_statistics(
        nn.Sequential(backbone, FPN(backbone.feature_specs, channels=16, p6_from="p5", norm="bn"))
    )
    folded = copy.deepcopy(network)
    assert fold_norms(folded) == _num_norms(network)
    _assert_same_maps(folded, network)
