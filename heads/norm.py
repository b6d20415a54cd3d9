"""Group normalization (Wu and He 2018, arXiv 1803.08494), which is independent of other images and ranks."""

import math

import torch
from torch import Tensor, nn


class _ContiguousGroupNorm(nn.GroupNorm):
    """GroupNorm that computes in NCHW memory, except in float32, and returns the memory format of its input.

    On the CPU, the backward pass of channels_last bfloat16 takes 8 times as long if groups are small: 6.4 ms instead of
    0.8 ms for (4, 96, 32, 40) in 32 groups (one thread, torch 2.15, AMD EPYC Zen 5). In float32 it is fast: forward and
    backward of (2, 256, 40, 40) take 2.7 ms, and 8.6 ms with the copies. On CUDA, torch copies to NCHW anyway.
    """

    def forward(self, input: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            # functional.group_norm rejects groups of one value, which the exporter cannot rule out for a number of
            # boxes that depends on the image.
            return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)
        if input.dtype == torch.float32:
            return super().forward(input)
        is_channels_last = input.is_contiguous(memory_format=torch.channels_last)
        output = super().forward(input.contiguous())
        return output.contiguous(memory_format=torch.channels_last) if is_channels_last else output


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a GroupNorm of 32 groups, or of the largest divisor of 32 that divides `channels`.

    A group has at least two channels: with one channel, a 1x1 map of one image has a single value to normalize, which
    torch rejects.
    """
    groups = math.gcd(32, channels)
    return _ContiguousGroupNorm(groups // 2 if 1 < groups == channels else groups, channels)
