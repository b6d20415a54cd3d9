"""Depthwise convolutions that are slow in bf16 on a CPU compute in float32, in the middle of a network in bf16.

oneDNN has fast bf16 kernels for depthwise convolutions of 3x3 with stride 1. With a larger kernel or stride, forward
and backward take 1.5 to 20 times as long as in float32, which makes whole networks slower (`docs/benchmarks.md`).
Remove this when oneDNN has such kernels.
"""

import torch
from torch import Tensor, nn

_FAST_KERNEL = 3


class Float32UnderAutocast(nn.Conv2d):
    """A convolution that computes in float32 under autocast on a CPU, and returns bf16."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the convolved images (B, C, H, W)."""
        if not images.is_cpu or not torch.is_autocast_enabled("cpu"):
            return super().forward(images)
        with torch.autocast("cpu", enabled=False):
            convolved = super().forward(images.float())
        return convolved.to(torch.get_autocast_dtype("cpu"))


def compute_slow_depthwise_in_float32(network: nn.Module) -> None:
    """Change the class of all slow depthwise convolutions; names and values of parameters stay as they are.

    A second call changes only convolutions that have been added since, such as those of folded branches.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and _is_slow_in_bf16(module) and not isinstance(module, Float32UnderAutocast):
            own = type(module)
            module.__class__ = type(f"Float32{own.__name__}", (Float32UnderAutocast, own), {})


def num_float32_convolutions(network: nn.Module) -> int:
    """Return the number of convolutions that `compute_slow_depthwise_in_float32` has changed."""
    return sum(isinstance(module, Float32UnderAutocast) for module in network.modules())


def _is_slow_in_bf16(conv: nn.Conv2d) -> bool:
    is_depthwise = conv.groups > 1 and conv.groups == conv.in_channels
    return is_depthwise and (max(conv.kernel_size) > _FAST_KERNEL or max(conv.stride) > 1)
