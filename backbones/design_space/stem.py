"""The first layers of a design."""

from torch import nn

from backbones.design_space.layers import activation, chain, convolution, norm
from backbones.spec.design_fields import DesignFields
from backbones.spec.design_plan import stem_convolutions


def build_stem(spec: DesignFields) -> nn.Sequential:
    """Return the stem: convolutions `conv{n}` with their norms `norm{n}` and activations, n from 1, and a pooling.

    | stem | layers | stride |
    |---|---|---|
    | 7x7 | 7x7 of stride 2, maximum of 3x3 of stride 2 (ResNet) | 4 |
    | deep | three 3x3, the first of stride 2 and all but the last half as wide, the same maximum (ResNet-C) | 4 |
    | patchify | 4x4 of stride 4 and a norm, no activation (ConvNeXt) | 4 |
    | 11x11 | 11x11 of stride 4 (AlexNet; padded, its maximum left out) | 4 |
    | 3x3 | 3x3 of stride 2 (MobileNetV2) | 2 |

    Where blocks are added in the order `pre`, the last convolution has neither norm nor activation: the first block
    begins with them.
    """
    layers: dict[str, nn.Module] = {}
    planned = stem_convolutions(spec)
    for number, plan in enumerate(planned, start=1):
        is_raw = spec.order == "pre" and spec.combination == "add" and number == len(planned)
        layers[f"conv{number}"] = convolution(spec, plan, feeds_norm=True)
        if not is_raw:
            layers[f"norm{number}"] = norm(spec, plan.out_channels)
        if not is_raw and spec.stem != "patchify":
            layers[f"act{number}"] = activation(spec)
    if spec.stem in ("7x7", "deep"):
        layers["pool"] = nn.MaxPool2d(3, stride=2, padding=1)
    return chain(layers)
