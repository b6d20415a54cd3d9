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
    """Return the maps, the gradients and the state of a network after one forward and backward pass."""
    torch.manual_seed(2)
    features = network(images)
    sum(feature.square().mean() for feature in features.values()).backward()
    gradients = {f"gradient of {name}": p.grad for name, p in network.named_parameters()}
    return {name: value.detach() for name, value in {**features, **gradients, **network.state_dict()}.items()}


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
    fast = copy.deepcopy(plain)
    use_winograd(fast)
    if not any(isinstance(module, WinogradConv2d) for module in fast.modules()):
        return
    images = torch.randn(2, 3, SIDE_PX, SIDE_PX)
    expected, found = _step(plain, images), _step(fast, images)
    assert expected.keys() == found.keys()
    is_gradient = {key: key.startswith("gradient") for key in expected}
    for key, value in expected.items():
        if not is_gradient[key]:
            assert (found[key] - value).float().norm() <= 1e-3 * value.float().norm() + 1e-6, key
    # Rounding changes which cell a maximum is taken from, so that gradients of single layers can differ more.
    one, other = (
        torch.cat([value.flatten() for key, value in step.items() if is_gradient[key]]) for step in (expected, found)
    )
    assert (other - one).norm() <= 0.05 * one.norm()


def test_whole_model_uses_it_and_keeps_the_names_of_its_parameters() -> None:
    tasks = {"cells": {"head": "fcos", "num_convs": 1}}
    spec = ModelSpec.model_validate({"backbone": {"name": "resnet14_thin", "weights": "none"}, "tasks": tasks})
    model = build_model(spec, {"cells": [Category(1, "a")]})
    names = {name for name, module in model.named_modules() if isinstance(module, WinogradConv2d)}
    assert {"neck.smooth.c3", "heads.cells.class_tower.0", "heads.cells.class_output"} <= names
    assert "neck.lateral.c3" not in names
    assert {"neck.smooth.c3.weight", "neck.smooth.c3.bias"} <= model.state_dict().keys()
