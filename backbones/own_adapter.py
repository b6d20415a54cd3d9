"""Feature extractors for networks that are not in timm or torchvision; they have no published weights."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from backbones.catalog.row import BackboneRow
from backbones.classic.alexnet_zfnet import alexnet2012, zfnet, zfnet_wide
from backbones.classic.convnext_isotropic import ConvNeXtIsotropic
from backbones.classic.inception import bn_inception, googlenet
from backbones.classic.nin import NiN
from backbones.feature_extractor import IMAGENET_MEAN, IMAGENET_STD, FeatureExtractor
from backbones.simple_pyramid import SingleScaleExtractor, Upsampling

PYRAMIDS: Mapping[str, Callable[..., nn.Module]] = {
    "alexnet2012": alexnet2012,
    "zfnet": zfnet,
    "zfnet_wide": zfnet_wide,
    "nin": NiN,
    "googlenet": googlenet,
    "bn_inception": bn_inception,
}
"""Networks that return maps with strides 8, 16 and 32. A row's `id` is the key, its `kwargs` are the arguments."""

SINGLE_SCALE: Mapping[str, Callable[..., ConvNeXtIsotropic]] = {"convnext_isotropic": ConvNeXtIsotropic}
"""Networks that return three maps with the same stride: after one third, two thirds and all of the blocks."""


class OwnExtractor(FeatureExtractor):
    """A network that returns the maps of all levels itself."""

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps with strides 8, 16, 32, finest first, each (B, C, H, W)."""
        maps: list[Tensor] = self.network(images)
        return maps


class OwnSingleScaleExtractor(SingleScaleExtractor):
    """A single-scale network that returns maps by depth."""

    def maps_by_depth(self, images: Tensor, *, last_only: bool = False) -> list[Tensor]:
        """Return the maps after one third, two thirds and all of the blocks."""
        maps: list[Tensor] = self.network(images)
        return maps


def build_own_extractor(row: BackboneRow, upsampling: Upsampling | None = None) -> FeatureExtractor:
    """Build the network of `row` with random weights.

    Args:
        row: a row with the source "own".
        upsampling: operation that makes c3 from the map of a single-scale network.
    """
    if row.id in PYRAMIDS:
        return OwnExtractor(PYRAMIDS[row.id](**row.kwargs), IMAGENET_MEAN, IMAGENET_STD)
    network = SINGLE_SCALE[row.id](**row.kwargs)
    return OwnSingleScaleExtractor(network, network.width, network.stride, IMAGENET_MEAN, IMAGENET_STD, upsampling)
