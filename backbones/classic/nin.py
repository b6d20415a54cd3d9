"""Network in Network (Lin, Chen, Yan 2013, arXiv 1312.4400).

| block | kernel of the first convolution | channels | output stride |
|---|---|---|---|
| block1 | 11x11 stride 4 | 96 | 4 |
| block2 | 5x5 | 256 | 8 = c3 |
| block3 | 3x3 | 384 | 16 = c4 |
| block4 | 3x3 | configurable | 32 = c5 |

Each block is a convolution followed by two 1x1 convolutions, each with a ReLU. Between blocks is 3x3 max pooling with
stride 2.

The widths are the usual ones for ImageNet; the paper states only those for smaller images. Deviations: paddings give
maps of exactly image size / stride cells; the last block has a configurable number of channels instead of one per
class; the global pooling after it and the dropout layers between blocks are omitted.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from backbones.classic.initialization import initialize


class NiN(nn.Module):
    """Network that returns the maps after the second, third and fourth block: strides 8, 16, 32."""

    def __init__(self, width: int = 512) -> None:
        """Build the blocks; `width` is the number of channels of the last one."""
        super().__init__()
        self.block1 = _block(3, 96, 11, stride=4)
        self.block2 = _block(96, 256, 5)
        self.block3 = _block(256, 384, 3)
        self.block4 = _block(384, width, 3)
        initialize(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps with strides 8, 16, 32, finest first, each (B, C, H, W)."""
        feature = self.block1(images)
        maps = []
        for block in (self.block2, self.block3, self.block4):
            feature = block(F.max_pool2d(feature, 3, stride=2, padding=1))
            maps.append(feature)
        return maps


def _block(channels: int, width: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 1),
        nn.ReLU(inplace=True),
    )
