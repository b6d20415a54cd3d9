"""Feature extractors of timm's networks.

They work like timm's `features_only=True, feature_cls="getter"`, but on a network that has already been built, because
only then is its `feature_info` known, by which maps are selected by stride. Maps are always NCHW, parameters keep
timm's names, and layers after the last map are removed.

For a single-scale network, the simple feature pyramid makes three levels from the map of the last block. The map
includes the network's final norm, because its weights were trained for that output; without the norm it would be the
raw sum of all blocks. Prefix tokens (class, distillation, registers) are dropped after the last block, and timm
resamples position embeddings to the image size.
"""

from collections.abc import Mapping
from typing import Any

import timm
from timm.models import group_parameters
from torch import Tensor, nn

from backbones.catalog.row import BackboneRow
from backbones.feature_extractor import IMAGENET_MEAN, IMAGENET_STD, RGB, FeatureExtractor
from backbones.geometry import PYRAMID_STRIDES, require_pyramid_strides
from backbones.published_names import rename_to_timm
from backbones.simple_pyramid import SINGLE_STRIDES, SingleScaleExtractor, Upsampling, ends_of_thirds

_FREE_SIZE: tuple[dict[str, Any], ...] = ({"strict_img_size": False}, {"dynamic_img_size": True}, {})
"""Arguments that make timm's networks with a fixed image size accept any size, in the order in which they are tried."""


class TimmExtractor(FeatureExtractor):
    """A timm network that returns the maps at the feature indices `indices`."""

    def __init__(self, network: nn.Module, indices: list[int], mean: RGB, std: RGB) -> None:
        super().__init__(network, mean, std)
        self.indices = indices

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps with strides 8, 16, 32, finest first, each (B, C, H, W)."""
        maps: list[Tensor] = self.network.forward_intermediates(  # type: ignore[operator]
            images, indices=self.indices, norm=False, output_fmt="NCHW", intermediates_only=True
        )
        return maps

    def layer_ranks(self) -> dict[str, int]:
        """Return timm's layer number of each parameter of `network`, or measured ranks if timm defines no layers."""
        return _timms_layers(self.network) or super().layer_ranks()

    def rename(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return a published state dict with timm's names; one that has these names already is unchanged."""
        return rename_to_timm(state, self.network.state_dict())


class TimmSingleScaleExtractor(SingleScaleExtractor):
    """A single-scale timm network with a simple feature pyramid."""

    def maps_by_depth(self, images: Tensor, *, last_only: bool = False) -> list[Tensor]:
        """Return the maps after one third, two thirds and all of the blocks, the last with the network's norm."""
        network: Any = self.network
        *inner, last = ends_of_thirds(len(_feature_info(network)))
        options = {"output_fmt": "NCHW", "intermediates_only": True}
        before = [] if last_only else network.forward_intermediates(images, indices=inner, norm=False, **options)
        return [*before, *network.forward_intermediates(images, indices=[last], norm=True, **options)]

    def layer_ranks(self) -> dict[str, int]:
        """Return timm's layer number of each parameter of `network`, or measured ranks if timm defines no layers."""
        return _timms_layers(self.network) or super().layer_ranks()


def _timms_layers(network: Any) -> dict[str, int]:
    if not hasattr(network, "group_matcher"):
        return {}
    ranks: dict[str, int] = group_parameters(network, network.group_matcher(coarse=False), reverse=True)
    return ranks


def build_timm_extractor(row: BackboneRow, pretrained: bool, upsampling: Upsampling | None = None) -> FeatureExtractor:
    """Build the network of `row`, with timm's weights or random ones, and remove the layers after its last map.

    Args:
        row: a row with the source "timm".
        pretrained: whether timm's weights are downloaded.
        upsampling: operation that makes c3 from the map of a single-scale network.

    Raises:
        ValueError: the network has neither maps with strides 8, 16 and 32 nor a single map from which a pyramid could
            be made, or timm does not give access to its maps.
    """
    network = _create(row, pretrained)
    if not hasattr(network, "forward_intermediates"):
        raise ValueError("timm does not give access to the maps inside this network; choose another one")
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
    candidates = _FREE_SIZE if settings is not None and settings.fixed_input_size else ({},)
    for options in candidates:
        try:
            return timm.create_model(row.id, pretrained=pretrained, num_classes=0, **options, **row.kwargs)
        except TypeError:
            if not options:
                raise
    raise AssertionError("the last candidate is empty and either returns or raises")


def _feature_info(network: Any) -> list[dict[str, Any]]:
    """Return timm's description of each map of the network, in their order."""
    info: list[dict[str, Any]] = getattr(network.feature_info, "info", network.feature_info)
    return info


def _indices_by_stride(strides: list[int]) -> list[int]:
    """Return the last index of each of the strides 8, 16 and 32."""
    require_pyramid_strides(strides)
    return [max(i for i, stride in enumerate(strides) if stride == wanted) for wanted in PYRAMID_STRIDES]
