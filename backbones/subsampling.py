"""1x1 convolutions with a stride, for few channels.

oneDNN's gradient of such a convolution's weights writes beyond its memory: in channels_last on a CPU with AVX-512, with
2 to 15 input channels and maps above 64 cells a side (torch 2.15.0; glibc's malloc check, MALLOC_CHECK_=3, stops it).
RepVGG begins with one. Remove when it is mended there.
"""

import torch.nn.functional as F
from torch import Tensor, nn

_FEW_CHANNELS = 16


class SubsampledConv2d(nn.Conv2d):
    """A 1x1 convolution with a stride that leaves out the cells between first: the same numbers by another kernel."""

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, out_channels, H / stride, W / stride) of (B, in_channels, H, W)."""
        rows, columns = self.stride
        return F.conv2d(images[:, :, ::rows, ::columns], self.weight, self.bias, groups=self.groups)


def subsample_first(network: nn.Module) -> None:
    """Make every such convolution of `network` a `SubsampledConv2d`: the same module with the same parameters."""
    for module in network.modules():
        if type(module) is nn.Conv2d and is_unsafe(module):
            module.__class__ = SubsampledConv2d


def is_unsafe(conv: nn.Conv2d) -> bool:
    """Whether a convolution is one of those."""
    is_strided_1x1 = conv.kernel_size == (1, 1) and conv.stride != (1, 1) and conv.padding == (0, 0)
    return is_strided_1x1 and conv.in_channels < _FEW_CHANNELS
