"""The layers of a design: convolution, norm, activation."""

import math
from collections import OrderedDict
from collections.abc import Mapping

from timm.layers.norm import LayerNorm2d
from torch import nn

from backbones.spec.design_fields import DesignFields
from backbones.spec.design_plan import Convolution
from backbones.surgery.deformable import DeformableConv2d

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6, "silu": nn.SiLU, "gelu": nn.GELU}


def convolution(spec: DesignFields, plan: Convolution, *, feeds_norm: bool, is_deformable: bool = False) -> nn.Conv2d:
    """Return a convolution with random weights.

    It has a bias, at 0, unless a bn or gn follows that would take it away. With ln it has one always, as in ConvNeXt.

    A convolution of the kernel 2 or 4 takes patches and is not padded.

    Args:
        spec: says how weights start: Kaiming's normal distribution by fan-out with the gain of ReLU (He et al. 2015,
            arXiv 1502.01852, eq. 14), where a group counts as a convolution of its own; or a normal distribution of
            deviation 0.02, cut at two of them (ConvNeXt, whose authors' code cuts at +-2, which is never).
        plan: its numbers.
        feeds_norm: whether a norm is next, be it that of the next block.
        is_deformable: whether it learns where to look; at the start it does not.
    """
    has_bias = spec.norm == "ln" or not feeds_norm
    padding = plan.kernel // 2 if plan.kernel % 2 else 0
    made = DeformableConv2d if is_deformable else nn.Conv2d
    layer = made(
        plan.in_channels,
        plan.out_channels,
        plan.kernel,
        stride=plan.stride,
        padding=padding,
        groups=plan.groups,
        bias=has_bias,
    )
    if spec.initialization == "kaiming":
        fan_out = plan.kernel**2 * plan.out_channels / plan.groups
        nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
    else:
        nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.04, b=0.04)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def norm(spec: DesignFields, channels: int) -> nn.Module:
    """Return a norm of maps (B, C, H, W); ln is over the channels of each cell."""
    if spec.norm == "bn":
        return nn.BatchNorm2d(channels)
    if spec.norm == "gn":
        return nn.GroupNorm(spec.norm_groups, channels)
    return LayerNorm2d(channels)


def activation(spec: DesignFields) -> nn.Module:
    """Return an activation; GELU is exact."""
    return _ACTIVATIONS[spec.activation]()


def chain(layers: Mapping[str, nn.Module]) -> nn.Sequential:
    """Return layers by name that run in their order; none give back their input."""
    return nn.Sequential(OrderedDict(layers))
