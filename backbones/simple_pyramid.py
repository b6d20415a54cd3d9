"""The simple feature pyramid: three levels from the single map of a single-scale network.

Li, Mao, Girshick, He: Exploring Plain Vision Transformer Backbones for Object Detection, 2022, arXiv 2203.16527,
section 3, "Simple feature pyramid". From a map with stride 16 and D channels:

| level | operation on the map | channels |
|---|---|---|
| c3 | 2x2 transposed convolution with stride 2, or nearest upsampling and a 3x3 convolution | D / 2 |
| c4 | none | D |
| c5 | 2x2 max pooling | D |

A map with stride 8 (ConvMixer) is c3 itself, and is pooled once for c4 and twice for c5.

Deviations from the paper: the level with stride 4 is missing. The map is taken after the network's final norm, if that
norm applies to all tokens, because the weights were trained for this output. The neck is the same as for all other
backbones and adds coarse levels to fine ones, which the paper found unnecessary.

A transposed convolution with kernel 2 and stride 2 has a separate matrix for each of the four cells that it makes from
one. At random initialization these differ, a checkerboard pattern that training has to unlearn. Upsampling before a
convolution avoids it (Odena, Dumoulin, Olah: Deconvolution and Checkerboard Artifacts, 2016, DOI
10.23915/distill.00003).
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from backbones.feature_extractor import RGB, FeatureExtractor
from backbones.stages import discover_stages

Upsampling = Literal["transposed", "interpolated"]

SCALED_STRIDES = {7: 8, 14: 16}
"""Strides that do not divide 32, and the strides that result if images are first shrunk to 7/8 of their size."""

SINGLE_STRIDES = (8, 16, *SCALED_STRIDES)


class SimplePyramid(nn.Module):
    """Turns a map (B, D, H / stride, W / stride) into maps with strides 8, 16 and 32."""

    def __init__(self, channels: int, stride: int, upsampling: Upsampling | None = None) -> None:
        super().__init__()
        if stride == 8 and upsampling is not None:
            raise ValueError(
                f"surgery.upsampling: got {upsampling!r}, but the network's map has the stride 8 of c3 and is not "
                f"upsampled: remove this setting"
            )
        self.stride = stride
        self.finer = nn.Identity() if stride == 8 else _finer(channels, upsampling or "transposed")

    def forward(self, feature: Tensor) -> list[Tensor]:
        """Return the maps with strides 8, 16, 32, finest first; the coarser two have the channels of `feature`."""
        c3 = self.finer(feature)
        c4 = F.max_pool2d(feature, 2) if self.stride == 8 else feature
        return [c3, c4, F.max_pool2d(c4, 2)]


def _finer(channels: int, upsampling: Upsampling) -> nn.Module:
    if upsampling == "transposed":
        return nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(channels, channels // 2, 3, padding=1))


class SingleScaleExtractor(FeatureExtractor):
    """A single-scale network with a simple feature pyramid.

    Every level depends on the whole network, so levels do not determine stages. Stages are thirds of the depth instead:
    c3 has the patch embedding and the first third of the blocks, c4 the second third, c5 the last third with the final
    norm, the pyramid and the norms of the levels. This serves the purpose of stages: gradual unfreezing and learning
    rates that decay toward the image treat early blocks as early. As in other networks, no backward pass runs through
    the stages that are frozen from c3 on; unlike in other networks, their levels still depend on trainable stages.

    Attributes:
        scaling: (network stride, resulting stride of 8 or 16); images are resized by the ratio of the two.
    """

    def __init__(
        self, network: nn.Module, channels: int, stride: int, mean: RGB, std: RGB, upsampling: Upsampling | None = None
    ) -> None:
        super().__init__(network, mean, std)
        cell_px = SCALED_STRIDES.get(stride, stride)
        self.scaling = (stride, cell_px)
        self.pyramid = SimplePyramid(channels, cell_px, upsampling)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps with strides 8, 16, 32, finest first, each (B, C, H, W); H and W are multiples of 32."""
        levels: list[Tensor] = self.pyramid(self.maps_by_depth(self._scaled(images), last_only=True)[-1])
        return levels

    def _scaled(self, images: Tensor) -> Tensor:
        wanted, unit = self.scaling
        if wanted == unit:
            return images
        size_hw = [length * wanted // unit for length in images.shape[-2:]]
        return F.interpolate(images, size_hw, mode="bilinear", antialias=True)

    def maps_by_depth(self, images: Tensor, *, last_only: bool = False) -> list[Tensor]:
        """Return the maps after one third, two thirds and all of the blocks, or only the last.

        Args:
            images: (B, 3, H, W), where H and W are multiples of the network's own stride.
            last_only: whether the first two maps may be omitted.
        """
        raise NotImplementedError

    def assign_stages(self, found: dict[str, str]) -> dict[str, str]:
        """Return the stages by depth; parameters outside of the network, such as level norms, are in the last."""
        by_depth = discover_stages(_ByDepth(self))
        return {name: by_depth.get(name, "c5") for name in found}


class _ByDepth(nn.Module):
    """Returns the maps by depth instead of the levels."""

    def __init__(self, body: SingleScaleExtractor) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.body.maps_by_depth(self.body._scaled(images))


def ends_of_thirds(num_blocks: int) -> list[int]:
    """Return the index of the last block of each third; if the thirds differ in length, the earlier are longer."""
    return [(num_blocks * third + 2) // 3 - 1 for third in (1, 2, 3)]
