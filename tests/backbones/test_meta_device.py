"""Runs on the meta device without arithmetic."""

import pytest
import torch

from backbones.base import LEVELS
from backbones.create import create_backbone
from backbones.meta_device import ShapesOnly, built_on_meta

NETWORKS = (
    "resnet14_thin",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "densenet121",
    "convnext_atto",
    "deit_tiny",
)


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_and_gradients_are_those_of_the_network_itself(name: str) -> None:
    with built_on_meta():
        backbone = create_backbone(name).train()
    found = []
    for replaced in (False, True):
        images = torch.empty(2, 3, 64, 96, device="meta")
        if replaced:
            with ShapesOnly():
                maps = backbone(images)
        else:
            maps = backbone(images)
        parameters = dict(backbone.named_parameters())
        reached = []
        for level in LEVELS:
            gradients = torch.autograd.grad(
                maps[level].sum(), list(parameters.values()), allow_unused=True, retain_graph=True
            )
            reached.append({n: g.shape for n, g in zip(parameters, gradients, strict=True) if g is not None})
        found.append(([maps[level].shape for level in LEVELS], reached))
    assert found[0] == found[1]
