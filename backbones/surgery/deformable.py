"""Modulated deformable convolution (Zhu et al. 2019, DCNv2, arXiv 1811.11168), based on torchvision's operator.

Legend: B batch, C channels, H W size in cells.
"""

from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

_ARGUMENTS = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")


class DeformableConv2d(nn.Conv2d):
    """A convolution whose sampling points move by learned offsets and are weighted by learned masks (eq. 1).

    It has the arguments and, as `weight` and `bias`, the parameters of the convolution that it replaces. It returns the
    same output until `offset` is trained: offsets start at 0 and masks at 1.

    Deviations: the mask is 2 * sigmoid, because the paper's sigmoid starts at 1/2; `offset` has the learning rate of
    its stage, in the paper a tenth of it.

    It computes in float32, even under autocast and for 16-bit maps, and returns the maps' dtype. torchvision has no
    bfloat16 kernel for the CPU, and from the 128th cell on bfloat16 can represent only whole cell positions.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Build a `torch.nn.Conv2d` with the same arguments, and the convolution `offset`.

        Raises:
            ValueError: the kernel is even, or the padding is not a number of zeros.
        """
        super().__init__(*args, **kwargs)
        if any(size % 2 == 0 for size in self.kernel_size):
            raise ValueError(f"kernel_size: got {self.kernel_size}; a deformable convolution needs an odd kernel")
        if self.padding_mode != "zeros" or isinstance(self.padding, str):
            raise ValueError(
                f"padding: got {self.padding!r} with {self.padding_mode}; a deformable convolution needs a number of "
                "zeros as padding"
            )
        same: dict[str, Any] = {name: getattr(self, name) for name in ("kernel_size", "stride", "padding", "dilation")}
        num_offsets = 3 * self.kernel_size[0] * self.kernel_size[1]
        place: dict[str, Any] = {"device": self.weight.device, "dtype": self.weight.dtype}
        self.offset = nn.Conv2d(self.in_channels, num_offsets, **same, **place)
        self.reset_offsets()

    @classmethod
    def replacing(cls, convolution: nn.Conv2d) -> "DeformableConv2d":
        """Return a deformable convolution with the arguments of `convolution` that shares its parameters."""
        arguments: dict[str, Any] = {name: getattr(convolution, name) for name in _ARGUMENTS}
        weight = convolution.weight
        own = cls(**arguments, bias=convolution.bias is not None, device=weight.device, dtype=weight.dtype)
        own.weight, own.bias = convolution.weight, convolution.bias
        return own

    def reset_offsets(self) -> None:
        """Reset the offsets and masks; call this after code that initializes all convolutions of a network."""
        nn.init.zeros_(self.offset.weight)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, out_channels, H', W') of (B, in_channels, H, W), in the dtype of `features`."""
        device = features.device.type
        is_autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        with torch.autocast(device, enabled=False) if is_autocast else nullcontext():
            sampled = features if features.dtype.itemsize >= 4 else features.float()
            weight, bias = _parameters(self.offset, sampled.dtype)
            moves = F.conv2d(sampled, weight, bias, self.stride, self.padding, self.dilation)
            offsets, mask = moves.tensor_split([2 * moves.shape[1] // 3], dim=1)
            weight, bias = _parameters(self, sampled.dtype)
            convolved: Tensor = deform_conv2d(
                sampled,
                offsets,
                weight,
                bias,
                stride=self.stride,
                padding=self.padding,
                dilation=self.dilation,
                mask=2 * mask.sigmoid(),
            )
        return convolved.to(features.dtype)


def _parameters(convolution: nn.Conv2d, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    bias = convolution.bias
    return convolution.weight.to(dtype), None if bias is None else bias.to(dtype)
