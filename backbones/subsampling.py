"""A workaround for strided 1x1 convolutions with few channels.

For the weight gradient of such a convolution, oneDNN writes out of bounds: in channels_last on a CPU with AVX-512, with
2 to 15 input channels and maps above 64 cells per side (torch 2.15.0; glibc's malloc check, MALLOC_CHECK_=3, detects
it). RepVGG's first layer is such a convolution. Remove when oneDNN is fixed.
"""

import torch.nn.functional as F
from torch import Tensor, nn

_FEW_CHANNELS = 16


class SubsampledConv2d(nn.Conv2d):
    """A strided 1x1 convolution that first drops the cells it would skip: the same results from another kernel."""

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, out_channels, H / stride, W / stride) of (B, in_channels, H, W)."""
        rows, columns = self.stride
        return F.conv2d(images[:, :, ::rows, ::columns], self.weight, self.bias, groups=self.groups)


def subsample_first(network: nn.Module) -> None:
    """Turn every affected convolution of `network` into a `SubsampledConv2d`, with the same parameters."""
    for module in network.modules():
        if type(module) is nn.Conv2d and is_unsafe(module):
            module.__class__ = SubsampledConv2d


def is_unsafe(conv: nn.Conv2d) -> bool:
    """Return whether a convolution is affected."""
    is_strided_1x1 = conv.kernel_size == (1, 1) and conv.stride != (1, 1) and conv.padding == (0, 0)
    return is_strided_1x1 and conv.in_channels < _FEW_CHANNELS
