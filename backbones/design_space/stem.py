"""The first layers of a design."""

from torch import nn

from backbones.design_space.layers import activation, chain, convolution, norm
from backbones.spec.design_fields import DesignFields
from backbones.spec.design_plan import stem_convolutions


def build_stem(spec: DesignFields) -> nn.Sequential:
    """Return the stem: convolutions `conv{n}` with norms `norm{n}` and activations, n from 1, and possibly pooling.

    | stem | layers | stride |
    |---|---|---|
    | 7x7 | 7x7 with stride 2, 3x3 max pooling with stride 2 (ResNet) | 4 |
    | deep | three 3x3, the first with stride 2, the first two half as wide, the same pooling (ResNet-C) | 4 |
    | patchify | 4x4 with stride 4 and a norm, without activation (ConvNeXt) | 4 |
    | 11x11 | 11x11 with stride 4 (AlexNet, with padding and without pooling) | 4 |
    | 3x3 | 3x3 with stride 2 (MobileNetV2) | 2 |

    With the order `pre` and the combination `add`, the last convolution has neither norm nor activation, because the
    first block starts with them.
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
