"""AlexNet and ZFNet: networks with five convolutional and three pooling layers.

Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks, 2012,
DOI 10.1145/3065386. Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, 2013, arXiv 1311.2901.

| layer | AlexNet | ZFNet | ZFNet, wide (section 5.1 of its paper) | output stride |
|---|---|---|---|---|
| conv1 | 11x11 stride 4, 96 | 7x7 stride 2, 96 | as ZFNet | 4, 2 |
| pool 3x3 stride 2 | | | | 8, 4 |
| conv2 | 5x5, 256, 2 groups | 5x5 stride 2, 256 | as ZFNet | 8 = c3 |
| pool 3x3 stride 2 | | | | 16 |
| conv3 | 3x3, 384 | 3x3, 384 | 512 | 16 |
| conv4 | 3x3, 384, 2 groups | 3x3, 384 | 1024 | 16 |
| conv5 | 3x3, 256, 2 groups | 3x3, 256 | 512 | 16 = c4 |
| pool 3x3 stride 2 | | | | 32 = c5 |

c5 is c4 after max pooling and has no weights of its own. After conv1 and after conv2, AlexNet first applies local
response normalization (section 3.3: it divides each activation by a function of the activations in neighboring
channels) and then max pooling; ZFNet pools first.

Deviations: paddings are 5, 3, 2 and 1 for kernels 11, 7, 5 and 3, so that a map has exactly image size / stride cells;
ZFNet's response normalization uses AlexNet's constants because its paper does not state them; the weights are drawn by
`initialize`; the fully connected layers and their dropout are omitted.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from backbones.classic.initialization import initialize


class FiveConvolutions(nn.Module):
    """Network that returns the maps after conv2, conv5 and the last pooling layer: strides 8, 16, 32."""

    def __init__(
        self,
        kernels: tuple[int, int],
        strides: tuple[int, int],
        widths: Sequence[int],
        num_groups: int = 1,
        pools_before_norm: bool = False,
    ) -> None:
        """Build the layers.

        Args:
            kernels, strides: kernel sizes and strides of conv1 and conv2; the other convolutions are 3x3 with stride 1.
            widths: output channels of conv1 to conv5.
            num_groups: groups of conv2, conv4 and conv5.
            pools_before_norm: whether the layers after conv1 and conv2 pool before they normalize.
        """
        super().__init__()
        conv1, conv2, conv3, conv4, conv5 = widths
        self.conv1 = _convolution(3, conv1, kernels[0], strides[0])
        self.conv2 = _convolution(conv1, conv2, kernels[1], strides[1], num_groups)
        self.conv3 = _convolution(conv2, conv3, 3)
        self.conv4 = _convolution(conv3, conv4, 3, num_groups=num_groups)
        self.conv5 = _convolution(conv4, conv5, 3, num_groups=num_groups)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.norm = response_norm()
        self.pools_before_norm = pools_before_norm
        initialize(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps with strides 8, 16, 32, finest first, each (B, C, H, W)."""
        c3 = F.relu(self.conv2(self._norm_and_pool(F.relu(self.conv1(images)))))
        c4 = self._norm_and_pool(c3)
        for convolution in (self.conv3, self.conv4, self.conv5):
            c4 = F.relu(convolution(c4))
        return [c3, c4, self.pool(c4)]

    def _norm_and_pool(self, feature: Tensor) -> Tensor:
        layers = (self.pool, self.norm) if self.pools_before_norm else (self.norm, self.pool)
        for layer in layers:
            feature = layer(feature)
        return feature


def _convolution(channels: int, width: int, kernel: int, stride: int = 1, num_groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, groups=num_groups)


def response_norm() -> nn.LocalResponseNorm:
    """Return AlexNet's normalization over 5 channels (section 3.3); torch divides `alpha` by 5, the paper does not."""
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)


def alexnet2012() -> FiveConvolutions:
    """Return AlexNet as published, with groups for two GPUs; torchvision has the author's later single-GPU variant."""
    return FiveConvolutions((11, 5), (4, 1), (96, 256, 384, 384, 256), num_groups=2)


def zfnet(widths: Sequence[int] = (384, 384, 256)) -> FiveConvolutions:
    """Return ZFNet.

    Args:
        widths: output channels of conv3, conv4 and conv5.
    """
    return FiveConvolutions((7, 5), (2, 2), (96, 256, *widths), pools_before_norm=True)


def zfnet_wide() -> FiveConvolutions:
    """Return the wide ZFNet of section 5.1."""
    return zfnet((512, 1024, 512))
