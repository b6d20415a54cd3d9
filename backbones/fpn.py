"""Feature Pyramid Network (Lin et al. 2017, arXiv 1612.03144) with RetinaNet's two extra levels (arXiv 1708.02002).

Legend: B batch, C channels, H W size in cells.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from backbones.base import LEVELS, FeatureSpec

EXTRA_SOURCES = ("p5", "c5")
NORMS = ("none", "bn")


class FPN(nn.Module):
    """Turns c3..c5 into p3..p7, all with the same number of channels.

    Each input has a 1x1 lateral convolution. Top-down sums use nearest upsampling to the exact size of the lateral, so
    any image size works. A 3x3 convolution follows each sum. P6 is a 3x3 convolution with stride 2 on `p6_from`, P7 one
    on relu(P6). Weights are initialized with Kaiming uniform (a = 1) and biases with zero, as in the reference
    implementation.

    Attributes:
        feature_specs: geometry of p3..p7. p3..p5 have that of c3..c5. p6 and p7 have the same offset and double the
            stride each: a padded convolution with stride 2 halves the number of cells (rounded up) over the same
            image, and counts as aligned with it, like the padded convolutions inside a backbone.
    """

    def __init__(self, feature_specs: Mapping[str, FeatureSpec], *, channels: int, p6_from: str, norm: str) -> None:
        """Build the pyramid.

        Args:
            feature_specs: geometry of c3..c5.
            channels: channels of every output.
            p6_from: "p5" (as in torchvision's RetinaNet) or "c5" (as in the paper).
            norm: "none", or "bn" for BatchNorm after every lateral and smoothing convolution.

        Raises:
            ValueError: an argument has an unsupported value.
        """
        super().__init__()
        _check_choice("p6_from", p6_from, EXTRA_SOURCES)
        _check_choice("norm", norm, NORMS)
        if sorted(feature_specs) != sorted(LEVELS):
            raise ValueError(f"feature_specs: got the levels {sorted(feature_specs)}; give {list(LEVELS)}")
        self.p6_from = p6_from
        self.lateral = nn.ModuleDict(
            {level: _conv(feature_specs[level].channels, channels, 1, norm) for level in LEVELS}
        )
        self.smooth = nn.ModuleDict({level: _conv(channels, channels, 3, norm) for level in LEVELS})
        p6_channels = channels if p6_from == "p5" else feature_specs["c5"].channels
        self.p6 = nn.Conv2d(p6_channels, channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.feature_specs = _pyramid_specs(feature_specs, channels)
        self._initialize()

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return p3..p7, each (B, channels, H, W), finest first, from the c3..c5 (B, C, H, W) in `features`."""
        sums: dict[str, Tensor] = {}
        above: Tensor | None = None
        for level in reversed(LEVELS):
            lateral = self.lateral[level](features[level])
            if above is not None:
                lateral = lateral + F.interpolate(above, size=lateral.shape[-2:], mode="nearest")
            sums[level] = above = lateral
        outputs = {_pyramid_name(level): self.smooth[level](sums[level]) for level in LEVELS}
        outputs["p6"] = self.p6(_at_least_two_wide(outputs["p5"] if self.p6_from == "p5" else features["c5"]))
        outputs["p7"] = self.p7(_at_least_two_wide(F.relu(outputs["p6"])))
        return outputs

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def _conv(in_channels: int, out_channels: int, kernel: int, norm: str) -> nn.Module:
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=norm == "none")
    return conv if norm == "none" else nn.Sequential(conv, nn.BatchNorm2d(out_channels))


def _at_least_two_wide(feature: Tensor) -> Tensor:
    """Return `feature`, with a column of zeros appended if it has only one column.

    A padded 3x3 convolution with stride 2 returns the same for both. For a map of one column, oneDNN's bf16 kernel
    (torch 2.15) does not write parts of the weights' gradient: they contain whatever was in memory, NaN at worst.
    """
    return F.pad(feature, (0, 1)) if feature.shape[-1] == 1 else feature


def _pyramid_specs(feature_specs: Mapping[str, FeatureSpec], channels: int) -> dict[str, FeatureSpec]:
    specs = {
        _pyramid_name(level): FeatureSpec(channels, feature_specs[level].stride, feature_specs[level].offset_px)
        for level in LEVELS
    }
    specs["p6"] = FeatureSpec(channels, 2 * specs["p5"].stride, specs["p5"].offset_px)
    specs["p7"] = FeatureSpec(channels, 4 * specs["p5"].stride, specs["p5"].offset_px)
    return specs


def _pyramid_name(level: str) -> str:
    return level.replace("c", "p")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: got {value!r}; choose {' or '.join(repr(choice) for choice in choices)}")
