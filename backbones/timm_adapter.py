"""Networks of timm as bodies with three taps.

This does what timm's own `features_only=True, feature_cls="getter"` does, on the network itself: `feature_info` is
known only once the network is built, and taps are chosen by the value of their stride. Maps are always NCHW, the
parameters keep timm's names, and what lies behind the last tap is removed.

A network of a single scale hands out the map of its last block, and the simple feature pyramid makes three of it. The
map comes with the network's final norm: that is what its weights were trained to hand out; before it are the raw sums
of all blocks. Prefix tokens (class, distillation, registers) are dropped behind the last block, and timm resamples
position embeddings to the size of the image.
"""

from typing import Any

import timm
from timm.models import group_parameters
from torch import Tensor, nn

from backbones.catalog.row import BackboneRow
from backbones.feature_extractor import IMAGENET_MEAN, IMAGENET_STD, RGB, FeatureExtractor
from backbones.geometry import PYRAMID_STRIDES, require_pyramid_strides
from backbones.simple_pyramid import SINGLE_STRIDES, SingleScaleExtractor, Upsampling, ends_of_thirds

_FREE_SIZE: tuple[dict[str, Any], ...] = ({"strict_img_size": False}, {"dynamic_img_size": True}, {})
"""What timm's networks of a fixed image size call the wish for any size, most specific first."""


class TimmExtractor(FeatureExtractor):
    """A timm network with taps at the feature indices `indices`."""

    def __init__(self, network: nn.Module, indices: list[int], mean: RGB, std: RGB) -> None:
        super().__init__(network, mean, std)
        self.indices = indices

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps of strides 8, 16, 32, finest first, each (B, C, H, W)."""
        maps: list[Tensor] = self.network.forward_intermediates(  # type: ignore[operator]
            images, indices=self.indices, norm=False, output_fmt="NCHW", intermediates_only=True
        )
        return maps

    def layer_ranks(self) -> dict[str, int]:
        """Return timm's layer of each parameter of `network`, where timm tells it."""
        return _timms_layers(self.network) or super().layer_ranks()


class TimmSingleScaleExtractor(SingleScaleExtractor):
    """A timm network of a single scale, whose last map becomes three."""

    def maps_by_depth(self, images: Tensor, *, last_only: bool = False) -> list[Tensor]:
        """Return the maps behind one third, two thirds and all of the blocks, the last with the network's norm."""
        network: Any = self.network
        *inner, last = ends_of_thirds(len(_feature_info(network)))
        options = {"output_fmt": "NCHW", "intermediates_only": True}
        before = [] if last_only else network.forward_intermediates(images, indices=inner, norm=False, **options)
        return [*before, *network.forward_intermediates(images, indices=[last], norm=True, **options)]

    def layer_ranks(self) -> dict[str, int]:
        """Return timm's layer of each parameter of `network`, where timm tells it."""
        return _timms_layers(self.network) or super().layer_ranks()


def _timms_layers(network: Any) -> dict[str, int]:
    if not hasattr(network, "group_matcher"):
        return {}
    ranks: dict[str, int] = group_parameters(network, network.group_matcher(coarse=False), reverse=True)
    return ranks


def build_timm_extractor(row: BackboneRow, pretrained: bool, upsampling: Upsampling | None = None) -> FeatureExtractor:
    """Build the network of `row` with timm's weights, or at random, and cut it behind its last map.

    Args:
        row: whose `source` is timm.
        pretrained: whether timm's weights are downloaded.
        upsampling: how a network of a single scale comes to c3.

    Raises:
        ValueError: it has neither maps of strides 8, 16 and 32 nor a single one of which they could be made, or timm
            cannot hand out its maps.
    """
    network = _create(row, pretrained)
    if not hasattr(network, "forward_intermediates"):
        raise ValueError("timm cannot hand out the maps inside this network; take another one")
    settings = network.pretrained_cfg
    mean, std = tuple(settings.get("mean", IMAGENET_MEAN)), tuple(settings.get("std", IMAGENET_STD))
    info = _feature_info(network)
    strides = {entry["reduction"] for entry in info}
    if len(strides) == 1 and strides <= set(SINGLE_STRIDES):
        network.prune_intermediate_layers([len(info) - 1], prune_norm=False)
        return TimmSingleScaleExtractor(network, info[-1]["num_chs"], strides.pop(), mean, std, upsampling)
    indices = _indices_by_stride([entry["reduction"] for entry in info])
    network.prune_intermediate_layers(indices, prune_norm=True)
    return TimmExtractor(network, indices, mean, std)


def _create(row: BackboneRow, pretrained: bool) -> Any:
    settings = timm.get_pretrained_cfg(row.id)
    wishes = _FREE_SIZE if settings is not None and settings.fixed_input_size else ({},)
    for wish in wishes:
        try:
            return timm.create_model(row.id, pretrained=pretrained, num_classes=0, **wish, **row.kwargs)
        except TypeError:
            if not wish:
                raise
    raise AssertionError("the last wish is empty and either returns or raises")


def _feature_info(network: Any) -> list[dict[str, Any]]:
    """Return what timm says of each map that the network can hand out, in their order."""
    info: list[dict[str, Any]] = getattr(network.feature_info, "info", network.feature_info)
    return info


def _indices_by_stride(strides: list[int]) -> list[int]:
    """Return the last index of stride 8, of 16 and of 32."""
    require_pyramid_strides(strides)
    return [max(i for i, stride in enumerate(strides) if stride == wanted) for wanted in PYRAMID_STRIDES]
