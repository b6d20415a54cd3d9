"""Network in Network (Lin, Chen, Yan 2013, arXiv 1312.4400).

| block | kernel of the first convolution | channels | stride behind it |
|---|---|---|---|
| block1 | 11x11 stride 4 | 96 | 4 |
| block2 | 5x5 | 256 | 8 = c3 |
| block3 | 3x3 | 384 | 16 = c4 |
| block4 | 3x3 | free | 32 = c5 |

Each block is a convolution and two of 1x1, a ReLU behind each; between blocks is a max pooling 3x3 of stride 2.

The widths are the usual ones for ImageNet; the paper itself gives those of smaller images. Deviations: paddings keep
exactly the share of the image's cells; the last block, which has one channel a class in the paper, has any number; the
pooling of the whole image behind it and the dropouts between blocks are left out.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from backbones.classic.initialization import initialize


class NiN(nn.Module):
    """Hands out the maps behind the second to fourth block: strides 8, 16, 32."""

    def __init__(self, width: int = 512) -> None:
        """Build the blocks; `width` is that of the last."""
        super().__init__()
        self.block1 = _block(3, 96, 11, stride=4)
        self.block2 = _block(96, 256, 5)
        self.block3 = _block(256, 384, 3)
        self.block4 = _block(384, width, 3)
        initialize(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps of strides 8, 16, 32, finest first, each (B, C, H, W)."""
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
