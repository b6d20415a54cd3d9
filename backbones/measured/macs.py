"""Multiply-accumulates of a network, counted on the meta device.

The count includes convolutions (even deformable ones) and matrix products (even those of attention). One
multiply-accumulate is two floating-point operations of torch's counter. Norms, activations and sums are not counted, as
in most papers.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torchvision  # noqa: F401  # its import registers the operator below
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from backbones.meta_device import run_on_meta

_DEFORMABLE = torch.ops.torchvision.deform_conv2d


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates for one image; `deformable` is the part in deformable convolutions."""

    total: int
    deformable: int


def count_macs(module: nn.Module, image_hw: tuple[int, int]) -> Macs:
    """Return the multiply-accumulates of one forward pass on one image; `module` is not moved.

    Raises:
        ValueError: the module does not accept images of this size.
    """
    with FlopCounterMode(display=False, custom_mapping={_DEFORMABLE: _deformable_flops}) as counter:
        run_on_meta(module, image_hw)
    flops = counter.get_flop_counts()["Global"]
    return Macs(total=sum(flops.values()) // 2, deformable=flops.get(_DEFORMABLE, 0) // 2)


def _deformable_flops(
    image_shape: torch.Size, weight_shape: torch.Size, *_others: Any, out_shape: torch.Size, **_options: Any
) -> int:
    """Return the operations of the convolution, without the interpolation between pixels.

    Shapes are (B, C, H, W) of the image and of the output, and (K, C / groups, h, w) of the weight.
    """
    return 2 * math.prod(out_shape) * math.prod(weight_shape[1:])
