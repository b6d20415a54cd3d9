"""GoogLeNet and BN-Inception: one network with parallel branches, built from two tables of widths.

Szegedy et al.: Going Deeper with Convolutions, 2014, arXiv 1409.4842, table 1. Ioffe, Szegedy: Batch Normalization,
2015, arXiv 1502.03167, figure 5; if the authors' published network differs from the figure, the network's widths are
used.

| layer | GoogLeNet | BN-Inception | output stride |
|---|---|---|---|
| conv1 | 7x7 stride 2, 64 | the same | 2 |
| pool 3x3 stride 2 | | | 4 |
| conv2, conv3 | 1x1, 64; 3x3, 192 | the same | 4 |
| pool 3x3 stride 2 | | | 8 |
| blocks | 3a, 3b | 3a, 3b | 8 = c3 |
| halving | pool | block 3c | 16 |
| blocks | 4a to 4e | 4a to 4d | 16 = c4 |
| halving | pool | block 4e | 32 |
| blocks | 5a, 5b | 5a, 5b | 32 = c5 |

A block concatenates up to four branches along the channels: a 1x1 convolution; 1x1 then 3x3; 1x1 then 5x5 or two 3x3;
3x3 pooling then 1x1. Every convolution has a bias and is followed by a ReLU, or by BatchNorm and a ReLU in
BN-Inception. GoogLeNet has AlexNet's response normalization after its first pooling layer and before its second.

Deviations: the auxiliary classifiers and all layers after the last block are omitted; the weights are drawn by
`initialize`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.classic.alexnet_zfnet import response_norm
from backbones.classic.initialization import initialize


@dataclass(frozen=True)
class InceptionRow:
    """Output channels of the convolutions of a block, by branch; None omits a convolution.

    Attributes:
        one: the 1x1.
        three: the 1x1 and the 3x3.
        five: the 1x1 and the 5x5, or the 1x1 and both 3x3.
        projection: the 1x1 after pooling; None concatenates the pooled map itself.
        pool: the kind of pooling.
        stride: 2 halves the map, in the last convolution of the middle branches and in the pooling layer.
    """

    one: int | None
    three: tuple[int, int]
    five: tuple[int, ...]
    projection: int | None
    pool: Literal["max", "average"] = "average"
    stride: int = 1

    @property
    def width(self) -> int:
        """Output channels of the convolutions of the block; a pooled map without projection adds its own."""
        return (self.one or 0) + self.three[-1] + self.five[-1] + (self.projection or 0)


InceptionTable = Mapping[str, InceptionRow | None]
"""Blocks by name, in the order in which they run; None stands for 3x3 max pooling with stride 2."""

GOOGLENET: InceptionTable = {
    "3a": InceptionRow(64, (96, 128), (16, 32), 32, "max"),
    "3b": InceptionRow(128, (128, 192), (32, 96), 64, "max"),
    "pool3": None,
    "4a": InceptionRow(192, (96, 208), (16, 48), 64, "max"),
    "4b": InceptionRow(160, (112, 224), (24, 64), 64, "max"),
    "4c": InceptionRow(128, (128, 256), (24, 64), 64, "max"),
    "4d": InceptionRow(112, (144, 288), (32, 64), 64, "max"),
    "4e": InceptionRow(256, (160, 320), (32, 128), 128, "max"),
    "pool4": None,
    "5a": InceptionRow(256, (160, 320), (32, 128), 128, "max"),
    "5b": InceptionRow(384, (192, 384), (48, 128), 128, "max"),
}
BN_INCEPTION: InceptionTable = {
    "3a": InceptionRow(64, (64, 64), (64, 96, 96), 32),
    "3b": InceptionRow(64, (64, 96), (64, 96, 96), 64),
    "3c": InceptionRow(None, (128, 160), (64, 96, 96), None, "max", stride=2),
    "4a": InceptionRow(224, (64, 96), (96, 128, 128), 128),
    "4b": InceptionRow(192, (96, 128), (96, 128, 128), 128),
    "4c": InceptionRow(160, (128, 160), (128, 160, 160), 128),
    "4d": InceptionRow(96, (128, 192), (160, 192, 192), 128),
    "4e": InceptionRow(None, (128, 192), (192, 256, 256), None, "max", stride=2),
    "5a": InceptionRow(352, (192, 320), (160, 224, 224), 128),
    "5b": InceptionRow(352, (192, 320), (192, 224, 224), 128, "max"),
}


class Inception(nn.Module):
    """Network that returns the maps before each halving and after the last block: strides 8, 16, 32."""

    def __init__(self, table: InceptionTable, has_batchnorm: bool) -> None:
        super().__init__()
        self.conv1 = _convolution(3, 64, 7, has_batchnorm, stride=2)
        self.conv2 = _convolution(64, 64, 1, has_batchnorm)
        self.conv3 = _convolution(64, 192, 3, has_batchnorm)
        self.norm = nn.Identity() if has_batchnorm else response_norm()
        self.blocks = nn.ModuleDict()
        channels = 192
        self.table = table
        for name, row in table.items():
            if row is not None:
                self.blocks[name] = block = InceptionBlock(channels, row, has_batchnorm)
                channels = block.width
        initialize(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps with strides 8, 16, 32, finest first, each (B, C, H, W)."""
        feature = self.norm(_halve(self.conv1(images)))
        feature = _halve(self.norm(self.conv3(self.conv2(feature))))
        maps = []
        for name, row in self.table.items():
            if row is None or row.stride == 2:
                maps.append(feature)
            feature = _halve(feature) if row is None else self.blocks[name](feature)
        return [*maps, feature]


class InceptionBlock(nn.Module):
    """The parallel branches of one row of a table.

    Attributes:
        width: output channels.
    """

    def __init__(self, channels: int, row: InceptionRow, has_batchnorm: bool) -> None:
        super().__init__()
        self.row = row
        self.width = row.width + (channels if row.projection is None else 0)
        self.one = _convolution(channels, row.one, 1, has_batchnorm) if row.one else None
        self.three = _branch(channels, row.three, (3,), row.stride, has_batchnorm)
        self.five = _branch(channels, row.five, (5,) if len(row.five) == 2 else (3, 3), row.stride, has_batchnorm)
        self.projection = _convolution(channels, row.projection, 1, has_batchnorm) if row.projection else None

    def forward(self, feature: Tensor) -> Tensor:
        """Return the concatenation of 1x1, 3x3, 5x5 and pooling."""
        pooled = self._pool(feature)
        branches = [self.one(feature)] if self.one is not None else []
        branches += [self.three(feature), self.five(feature)]
        branches.append(pooled if self.projection is None else self.projection(pooled))
        return torch.cat(branches, dim=1)

    def _pool(self, feature: Tensor) -> Tensor:
        if self.row.stride == 2:
            return _halve(feature)
        if self.row.pool == "max":
            return F.max_pool2d(feature, 3, stride=1, padding=1)
        return F.avg_pool2d(feature, 3, stride=1, padding=1)


def googlenet() -> Inception:
    """Return GoogLeNet as published; torchvision's variant has BatchNorm, and 3x3 instead of 5x5 convolutions."""
    return Inception(GOOGLENET, has_batchnorm=False)


def bn_inception() -> Inception:
    """Return BN-Inception, also called Inception v2."""
    return Inception(BN_INCEPTION, has_batchnorm=True)


def _branch(
    channels: int, widths: tuple[int, ...], kernels: tuple[int, ...], stride: int, has_batchnorm: bool
) -> nn.Sequential:
    """Return a 1x1 convolution followed by those with `kernels`, the last with `stride`."""
    layers = [_convolution(channels, widths[0], 1, has_batchnorm)]
    for k, kernel in enumerate(kernels):
        is_last = k == len(kernels) - 1
        layers.append(_convolution(widths[k], widths[k + 1], kernel, has_batchnorm, stride if is_last else 1))
    return nn.Sequential(*layers)


def _convolution(channels: int, width: int, kernel: int, has_batchnorm: bool, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2)
    norm = [nn.BatchNorm2d(width)] if has_batchnorm else []
    return nn.Sequential(convolution, *norm, nn.ReLU(inplace=True))


def _halve(feature: Tensor) -> Tensor:
    """Return the map pooled to half its size, rounded up as in the published networks."""
    return F.max_pool2d(feature, 3, stride=2, ceil_mode=True)
