"""Networks with Winograd's algorithm train like those without it: maps, gradients and running statistics."""

import copy

import pytest
import torch
from torch import Tensor, nn

from backbones.catalog.rows import CATALOG
from backbones.create import create_backbone
from heads import winograd
from heads.fast_convolution import WinogradConv2d, use_winograd
from pipelines.base.records import Category
from pipelines.model import build_model
from pipelines.spec.model import ModelSpec

SIDE_PX = 96
LIGHT = ("alexnet", "googlenet_bn", "resnet14_thin", "repvgg_a0")
"""Light rows with dense 3x3 convolutions; all others are tested by `make test-slow`."""


@pytest.fixture(autouse=True)
def small_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the algorithm for convolutions of any size."""
    monkeypatch.setattr(winograd, "MIN_TILES", 1)
    monkeypatch.setattr(winograd, "MIN_CHANNELS", 1)
    monkeypatch.setattr("heads.fast_convolution.MIN_CHANNELS", 1)


def _step(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return the maps, the gradients and the state of a network after a forward and a backward pass, as vectors."""
    torch.manual_seed(2)
    features = network(images)
    sum(feature.square().mean() for feature in features.values()).backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    parts = {"maps": features.values(), "gradients": gradients, "state": network.state_dict().values()}
    return {part: torch.cat([value.detach().flatten().double() for value in values]) for part, values in parts.items()}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in LIGHT else (pytest.mark.slow, pytest.mark.timeout(600)))
        for name in CATALOG
    ],
)
def test_step_of_a_family_is_equal_up_to_rounding(name: str) -> None:
    torch.manual_seed(0)
    plain = create_backbone(name).train()
    fast, exact = copy.deepcopy(plain), copy.deepcopy(plain).double()
    use_winograd(fast)
    if not any(isinstance(module, WinogradConv2d) for module in fast.modules()):
        return
    images = torch.randn(2, 3, SIDE_PX, SIDE_PX)
    expected, found, reference = _step(plain, images), _step(fast, images), _step(exact, images.double())
    for part, value in reference.items():
        # Some random networks amplify rounding without bound, also that of the plain convolution. Gradients are not
        # continuous: rounding decides which cell a maximum is taken from.
        limit = 20 * (expected[part] - value).norm() + (0.05 if part == "gradients" else 1e-5) * value.norm()
        assert (found[part] - value).norm() <= limit, part


def test_whole_model_uses_it_and_keeps_the_names_of_its_parameters() -> None:
    tasks = {"cells": {"head": "fcos", "num_convs": 1}}
    spec = ModelSpec.model_validate({"backbone": {"name": "resnet14_thin", "weights": "none"}, "tasks": tasks})
    model = build_model(spec, {"cells": [Category(1, "a")]})
    names = {name for name, module in model.named_modules() if isinstance(module, WinogradConv2d)}
    assert {"neck.smooth.c3", "heads.cells.class_tower.0", "heads.cells.class_output"} <= names
    assert "neck.lateral.c3" not in names
    assert {"neck.smooth.c3.weight", "neck.smooth.c3.bias"} <= model.state_dict().keys()
