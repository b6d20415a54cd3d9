"""Layers of backbones: timm's order if it has one, measured by running the network otherwise."""

import functools
import math

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn
from torch.fx import GraphModule

from backbones.base import LEVELS, Backbone
from backbones.create import create_backbone
from backbones.layers import block_ranks, number_layers
from backbones.meta_device import built_on_meta

FOLLOW_TIMM = {
    "timm:resnet18": "resnet18",
    "convnext_atto": "convnext_atto",
    "swin_tiny": "swin_tiny_patch4_window7_224",
    "efficientnet_b0": "efficientnet_b0",
    "timm:regnety_002": "regnety_002",
    "timm:mobilenetv3_small_050": "mobilenetv3_small_050",
}
ACROSS_STAGES = {"densenet121": "densenet121", "timm:hrnet_w18_small": "hrnet_w18_small"}
FOUND = (
    "tv:resnet18",
    "tv:swin_t",
    "tv:efficientnet_b0",
    "tv:densenet121",
    "tv:convnext_tiny",
    "tv:vgg11_bn",
    "tv:googlenet",
    "tv:regnet_y_400mf",
)
OTHERS = ("inception_v3", "tv:alexnet", "tv:shufflenet_v2_x0_5", "timm:poolformer_s12")
NETWORK = "body.network."


@functools.cache
def build(name: str) -> Backbone:
    if name.startswith("tv:regnet"):  # torchvision cannot build it on the meta device
        return create_backbone(name)
    with built_on_meta():
        return create_backbone(name)


def layers_of_network(backbone: Backbone) -> dict[str, int]:
    """Return the layers of the library's parameters, by the library's names."""
    return {name.removeprefix(NETWORK): k for name, k in backbone.layers.items() if name.startswith(NETWORK)}


def layers_of_timm(name: str) -> dict[str, int]:
    """Return the layers that timm's layer decay assigns in the whole network."""
    with built_on_meta():
        network = timm.create_model(name, num_classes=0)
    names = {id(parameter): key for key, parameter in network.named_parameters()}
    scales = {
        names[id(parameter)]: group["lr_scale"]
        for group in param_groups_layer_decay(network, layer_decay=0.5)
        for parameter in group["params"]
    }
    return {key: round(math.log2(scale / min(scales.values()))) for key, scale in scales.items()}


@pytest.mark.parametrize("name", FOLLOW_TIMM)
def test_layers_equal_those_of_layer_decay_in_timm(name: str) -> None:
    theirs = layers_of_timm(FOLLOW_TIMM[name])
    ours = layers_of_network(build(name))
    assert ours == {key: theirs[key] for key in ours}
    assert len(set(ours.values())) > 6


@pytest.mark.parametrize("name", ACROSS_STAGES)
def test_timm_layer_that_spans_two_stages_is_split(name: str) -> None:
    backbone, theirs = build(name), layers_of_timm(ACROSS_STAGES[name])
    ours = layers_of_network(backbone)
    pairs = {(backbone.stages[NETWORK + key], theirs[key], layer) for key, layer in ours.items()}
    assert len({pair[:2] for pair in pairs}) == len(pairs) == len(set(ours.values()))
    assert len({theirs[key] for key in ours}) < len(pairs)
    assert sorted(pairs) == sorted(pairs, key=lambda pair: pair[2])


@pytest.mark.parametrize("name", [*FOLLOW_TIMM, *ACROSS_STAGES, *FOUND, *OTHERS])
def test_every_parameter_has_a_layer_and_layers_follow_the_stages(name: str) -> None:
    backbone = build(name)
    assert backbone.layers.keys() == backbone.stages.keys()
    assert sorted(set(backbone.layers.values())) == list(range(max(backbone.layers.values()) + 1))
    stages = {layer: backbone.stages[key] for key, layer in backbone.layers.items()}
    assert all(stages[layer] == backbone.stages[key] for key, layer in backbone.layers.items())
    assert [stages[layer] for layer in sorted(stages)] == sorted(stages.values())
    for level in LEVELS:
        norm = {layer for key, layer in backbone.layers.items() if key.startswith(f"norms.{level}.")}
        assert not norm or norm == {max(layer for layer, stage in stages.items() if stage == level)}


@pytest.mark.parametrize("name", FOUND)
def test_measured_layers_follow_the_order_of_execution(name: str) -> None:
    backbone = build(name)
    graph = backbone.get_submodule("body.network")
    assert isinstance(graph, GraphModule)
    ours = layers_of_network(backbone)
    runs = [str(node.target) for node in graph.graph.nodes if node.op == "call_module"]
    course = [ours[key] for module in runs for key in ours if key.startswith(f"{module}.")]
    assert course == sorted(course)
    assert len(set(course)) > 6


def test_measured_blocks_equal_those_of_timm() -> None:
    assert layers_of_network(build("tv:resnet18")) == layers_of_network(build("timm:resnet18"))


class _ResidualBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))

    def forward(self, features: Tensor) -> Tensor:
        return features + self.inner(features)


class _Chain(nn.Sequential):
    """A subclass of a container, like torchvision's stages."""


class _ReorderedNetwork(nn.Module):
    """A network whose modules are not registered in the order in which they run."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(4, 1, 1))
        self.late = nn.ModuleList([_ResidualBlock(), _ResidualBlock()])
        self.stem = nn.Conv2d(3, 4, 4, stride=4)
        self.norm = nn.BatchNorm2d(4)
        self.down = nn.Sequential(nn.GroupNorm(1, 4), nn.Conv2d(4, 4, 2, stride=2))
        self.early = _Chain(_ResidualBlock(), _ResidualBlock())
        self.unused = nn.Linear(2, 2)

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.down(self.early(self.norm(self.stem(images)) + self.bias))
        for block in self.late:
            features = block(features)
        return [features]


def test_blocks_are_numbered_in_the_order_of_execution() -> None:
    ranks = block_ranks(_ReorderedNetwork())
    parts = {
        "stem": 0, "norm": 0, "bias": 0, "unused": 0, "early.0": 1, "early.1": 2, "down.0": 3, "down.1": 3,
        "late.0": 4, "late.1": 5,
    }  # fmt: skip
    assert len(ranks) == len(list(_ReorderedNetwork().named_parameters()))
    for name, rank in ranks.items():
        assert [rank] == [expected for part, expected in parts.items() if f"{name}.".startswith(f"{part}.")]


def test_finding_blocks_removes_its_hooks() -> None:
    toy = _ReorderedNetwork()
    block_ranks(toy)
    assert not any(module._forward_pre_hooks for module in toy.modules())
    assert toy.training


def test_layers_are_numbered_without_gaps_and_stage_by_stage() -> None:
    ranks = {"a": 7, "b": 9, "gone": 8, "shared4": 9, "c": 20, "d": 5}
    stages = {"a": "c3", "b": "c3", "norm3": "c3", "shared4": "c4", "d": "c4", "c": "c4", "norm5": "c5"}
    assert number_layers(ranks, stages) == {
        "a": 0, "b": 1, "norm3": 1, "d": 2, "shared4": 3, "c": 4, "norm5": 5,
    }  # fmt: skip
