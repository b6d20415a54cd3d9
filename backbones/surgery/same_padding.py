"""SAME padding of a constant width, for networks that are traced."""

from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional


class PaddedConv2d(nn.Conv2d):
    """A convolution after padding by fixed numbers of zeros."""

    pads: tuple[int, int, int, int]
    """Columns at the left and right, rows at the top and bottom."""

    def forward(self, input: Tensor) -> Tensor:
        """Return (B, out_channels, H, W) of (B, in_channels, H, W)."""
        return super().forward(functional.pad(input, self.pads))


def fix_same_padding(network: nn.Module) -> None:
    """Give every convolution with SAME padding the padding that it computes for maps whose sides its stride divides.

    With images whose sides are multiples of the network's stride, all maps are such maps, and the result is the same.
    A tracer then has no arithmetic with the sizes of the maps, which takes minutes where they are dynamic, and a
    runtime sees plain convolutions.
    """
    for module in network.modules():
        if type(module) is Conv2dSame:
            (top, bottom), (left, right) = (
                _zeros(kernel, dilation, stride)
                for kernel, dilation, stride in zip(module.kernel_size, module.dilation, module.stride, strict=True)
            )
            if (top, left) == (bottom, right):
                module.__class__ = nn.Conv2d  # type: ignore[assignment]
                module.padding = (top, left)
            else:
                module.__class__ = PaddedConv2d  # type: ignore[assignment]
                module.pads = (left, right, top, bottom)  # type: ignore[assignment]


def _zeros(kernel: int, dilation: int, stride: int) -> tuple[int, int]:
    """Return the zeros before and after a map with a side that is a multiple of the stride."""
    total = max((kernel - 1) * dilation + 1 - stride, 0)
    return total // 2, total - total // 2
