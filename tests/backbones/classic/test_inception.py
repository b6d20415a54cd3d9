"""Inception blocks compared with explicit formulas that use their weights."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

from backbones.classic.inception import (
    BN_INCEPTION,
    GOOGLENET,
    Inception,
    InceptionBlock,
    InceptionRow,
    bn_inception,
    googlenet,
)
from backbones.layers import block_ranks
from backbones.meta_device import built_on_meta

FEATURE = torch.randn(2, 12, 6, 8, generator=torch.Generator().manual_seed(0))


def applied(layer: nn.Module, feature: Tensor, stride: int = 1) -> Tensor:
    """Return the output of convolution, BatchNorm if present (eval mode), and ReLU."""
    assert isinstance(layer, nn.Sequential)
    convolution, *norm, _ = layer
    assert isinstance(convolution, nn.Conv2d)
    padding = convolution.weight.shape[-1] // 2
    feature = F.conv2d(feature, convolution.weight, convolution.bias, stride, padding)
    for batch_norm in norm:
        mean, var = batch_norm.running_mean.view(-1, 1, 1), batch_norm.running_var.view(-1, 1, 1)
        feature = (feature - mean) / (var + 1e-5).sqrt() * batch_norm.weight.view(-1, 1, 1)
        feature = feature + batch_norm.bias.view(-1, 1, 1)
    return feature.clamp(min=0)


def test_googlenet_block_concatenates_four_branches() -> None:
    block = InceptionBlock(12, InceptionRow(4, (6, 8), (2, 3), 5, "max"), has_batchnorm=False)
    expected = [
        applied(block.get_submodule("one"), FEATURE),
        applied(block.get_submodule("three.1"), applied(block.get_submodule("three.0"), FEATURE)),
        applied(block.get_submodule("five.1"), applied(block.get_submodule("five.0"), FEATURE)),
        applied(block.get_submodule("projection"), F.max_pool2d(FEATURE, 3, 1, 1)),
    ]
    assert block.get_parameter("five.1.0.weight").shape == (3, 2, 5, 5)
    torch.testing.assert_close(block(FEATURE), torch.cat(expected, dim=1))
    assert block.width == 4 + 8 + 3 + 5


def test_bn_inception_block_has_two_3x3_and_average_pooling() -> None:
    block = InceptionBlock(12, InceptionRow(4, (6, 8), (2, 3, 7), 5), has_batchnorm=True).eval()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            for statistics in (module.running_mean, module.running_var, module.weight, module.bias):
                statistics.data.uniform_(0.5, 1.5)
    five = block.get_submodule("five")
    assert isinstance(five, nn.Sequential)
    feature = FEATURE
    for layer in five:
        feature = applied(layer, feature)
    expected = [
        applied(block.get_submodule("one"), FEATURE),
        applied(block.get_submodule("three.1"), applied(block.get_submodule("three.0"), FEATURE)),
        feature,
        applied(block.get_submodule("projection"), F.avg_pool2d(FEATURE, 3, 1, 1)),
    ]
    torch.testing.assert_close(block(FEATURE), torch.cat(expected, dim=1))


def test_block_of_stride_2_concatenates_the_pooled_map() -> None:
    block = InceptionBlock(12, InceptionRow(None, (6, 8), (2, 3, 7), None, "max", stride=2), has_batchnorm=False)
    three = applied(block.get_submodule("three.1"), applied(block.get_submodule("three.0"), FEATURE), stride=2)
    five = applied(block.get_submodule("five.1"), applied(block.get_submodule("five.0"), FEATURE))
    five = applied(block.get_submodule("five.2"), five, stride=2)
    pool = F.pad(FEATURE, (0, 1, 0, 1), value=-torch.inf).unfold(2, 3, 2).unfold(3, 3, 2).amax(dim=(-2, -1))
    torch.testing.assert_close(block(FEATURE), torch.cat([three, five, pool], dim=1))
    assert block.width == 8 + 7 + 12


@pytest.mark.parametrize(("build", "ends"), [(googlenet, ("3b", "4e", "5b")), (bn_inception, ("3b", "4d", "5b"))])
def test_levels_end_before_each_halving(build: Callable[[], Inception], ends: tuple[str, ...]) -> None:
    network = build().eval()
    outputs: dict[str, Tensor] = {}
    for name in ends:
        network.blocks[name].register_forward_hook(
            lambda _module, _inputs, output, name=name: outputs.update({name: output})
        )
    maps = network(torch.zeros(1, 3, 64, 64))
    assert [feature.data_ptr() for feature in maps] == [outputs[name].data_ptr() for name in ends]


def test_googlenet_has_the_widths_of_torchvision() -> None:
    """torchvision's convolutions have BatchNorm and other kernel sizes, but the same numbers of channels."""
    with built_on_meta():
        theirs = models.googlenet(aux_logits=False, init_weights=False)
    for name, row in GOOGLENET.items():
        if row is not None:
            block = theirs.get_submodule(f"inception{name}")
            convolutions = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
            widths = [row.one, *row.three, *row.five, row.projection]
            assert [convolution.out_channels for convolution in convolutions] == widths


def test_blocks_are_layers_in_the_order_of_the_table() -> None:
    for network, table in ((googlenet(), GOOGLENET), (bn_inception(), BN_INCEPTION)):
        ranks = block_ranks(network)
        blocks = [name for name, row in table.items() if row is not None]
        assert {ranks[key] for key in ranks if key.startswith("conv")} == {0, 1, 2}
        for k, name in enumerate(blocks):
            assert {rank for key, rank in ranks.items() if key.startswith(f"blocks.{name}.")} == {3 + k}
