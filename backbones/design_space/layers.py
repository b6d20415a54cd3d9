"""The layers of a design: convolutions, norms and activations."""

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

    It has a bias, initialized with 0, unless it is followed by a bn or gn, which would cancel the bias. With ln it
    always has one, as in ConvNeXt. A convolution with kernel 2 or 4 splits the map into patches and is not padded.

    Args:
        spec: the design. Its `initialization` is either Kaiming's normal distribution by fan-out with the gain of ReLU
            (He et al. 2015, arXiv 1502.01852, eq. 14), with each group as a separate convolution, or a normal
            distribution with standard deviation 0.02, truncated at two standard deviations. Deviation: the code of
            ConvNeXt's authors truncates at +-2, which has no effect.
        plan: channels, kernel, stride and groups.
        feeds_norm: whether a norm follows, possibly that of the next block.
        is_deformable: whether it is deformable; its offsets start at 0.
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
    """Return the activation of a design; GELU is the exact one."""
    return _ACTIVATIONS[spec.activation]()


def chain(layers: Mapping[str, nn.Module]) -> nn.Sequential:
    """Return the named layers as a sequence, which is the identity without layers."""
    return nn.Sequential(OrderedDict(layers))
