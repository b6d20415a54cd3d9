"""Networks of timm as bodies with three taps.

This does what timm's own `features_only=True, feature_cls="getter"` does, on the network itself: `feature_info` is
known only once the network is built, and taps are chosen by the value of their stride. Maps are always NCHW, the
parameters keep timm's names, and what lies behind the last tap is removed.
"""

from typing import Any

import timm
from timm.models import group_parameters
from torch import Tensor, nn

from backbones.body import IMAGENET_MEAN, IMAGENET_STD, RGB, Body
from backbones.catalog.row import BackboneRow
from backbones.geometry import PYRAMID_STRIDES, require_pyramid_strides

_FREE_SIZE: tuple[dict[str, Any], ...] = ({"strict_img_size": False}, {"dynamic_img_size": True}, {})
"""What timm's networks of a fixed image size call the wish for any size, most specific first."""


class TimmBody(Body):
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
        if not hasattr(self.network, "group_matcher"):
            return super().layer_ranks()
        matcher: Any = self.network.group_matcher
        ranks: dict[str, int] = group_parameters(self.network, matcher(coarse=False), reverse=True)
        return ranks


def build_timm_body(row: BackboneRow, pretrained: bool) -> TimmBody:
    """Build the network of `row` with timm's weights, or at random, and cut it behind stride 32.

    Raises:
        ValueError: it has no maps of strides 8, 16 and 32, or timm cannot hand out its maps.
    """
    network = _create(row, pretrained)
    if not hasattr(network, "forward_intermediates"):
        raise ValueError("timm cannot hand out the maps inside this network; take another one")
    indices = _indices_by_stride(network.feature_info)
    network.prune_intermediate_layers(indices, prune_norm=True)
    settings = network.pretrained_cfg
    return TimmBody(
        network, indices, tuple(settings.get("mean", IMAGENET_MEAN)), tuple(settings.get("std", IMAGENET_STD))
    )


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


def _indices_by_stride(feature_info: Any) -> list[int]:
    """Return the last index of stride 8, of 16 and of 32."""
    strides = [row["reduction"] for row in getattr(feature_info, "info", feature_info)]
    require_pyramid_strides(strides)
    return [max(i for i, stride in enumerate(strides) if stride == wanted) for wanted in PYRAMID_STRIDES]
