"""Feature extractors of torchvision's networks.

torchvision does not document where stages end. They are measured: the blocks of a network run on the meta device, and
the last block with a given stride ends its stage. All other layers, including auxiliary classifiers, are removed.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from backbones.base import LEVELS
from backbones.catalog.row import BackboneRow
from backbones.feature_extractor import RGB, FeatureExtractor
from backbones.geometry import PROBE_HW, PYRAMID_STRIDES, require_pyramid_strides, stride_of
from backbones.layers import block_ranks
from backbones.meta_device import run_on_meta
from backbones.weights import load_matching

_GOOGLE_KWARGS: dict[str, Any] = {"aux_logits": False, "init_weights": False, "transform_input": False}
_KWARGS: dict[str, dict[str, Any]] = {"googlenet": _GOOGLE_KWARGS, "inception_v3": _GOOGLE_KWARGS}
"""Arguments that omit auxiliary classifiers, on whose parameters no map depends, and `transform_input`, which converts
images normalized for ImageNet to the normalization of Google's weights: here `mean` and `std` do that."""

_GOOGLE: RGB = (0.5, 0.5, 0.5)


class TorchvisionExtractor(FeatureExtractor):
    """A torchvision network, reduced to three outputs that are named like the levels.

    Attributes:
        nhwc_levels: levels whose maps are (B, H, W, C) inside the network.
        ranks: ranks of its parameters, found before the reduction: afterward it has no containers.
    """

    def __init__(self, network: nn.Module, nhwc_levels: set[str], ranks: dict[str, int], mean: RGB, std: RGB) -> None:
        super().__init__(network, mean, std)
        self.nhwc_levels = nhwc_levels
        self.ranks = ranks

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps with strides 8, 16, 32, finest first, each (B, C, H, W)."""
        by_level = self.network(images)
        return [
            by_level[level].permute(0, 3, 1, 2) if level in self.nhwc_levels else by_level[level] for level in LEVELS
        ]

    def layer_ranks(self) -> dict[str, int]:
        """Return a rank for each parameter of `network`: parameters of later layers have larger ranks."""
        return self.ranks


def build_torchvision_extractor(row: BackboneRow, pretrained: bool) -> TorchvisionExtractor:
    """Build the network of `row`, with torchvision's weights or random ones, and remove the layers after stride 32.

    Raises:
        ValueError: the network has no maps with strides 8, 16 and 32, or accepts a single image size only.
    """
    network = models.get_model(row.id, weights=None, **_KWARGS.get(row.id, {}), **row.kwargs)
    taps, nhwc_levels = _taps_by_stride(network)
    ranks = block_ranks(network)
    extractor = create_feature_extractor(network, return_nodes=taps)
    # The extractor has two graphs, which differ only in dropout of probability 0, and its deep copy forgets which
    # modules are in eval mode (torchvision 0.29). A plain graph module of one graph avoids both.
    extractor = torch.fx.GraphModule(extractor, extractor.train_graph)
    weights = models.get_model_weights(row.id).DEFAULT
    if pretrained:
        load_matching(extractor, weights.get_state_dict(progress=False, check_hash=True))
    preset = weights.transforms()
    mean, std = (_GOOGLE, _GOOGLE) if row.id in _KWARGS else (tuple(preset.mean), tuple(preset.std))
    return TorchvisionExtractor(extractor, nhwc_levels, ranks, mean, std)


def _taps_by_stride(network: nn.Module) -> tuple[dict[str, str], set[str]]:
    """Return the level of each block that ends one, by block name, and the levels whose maps are NHWC."""
    last_of_stride: dict[int, tuple[str, bool]] = {}
    for block, shape in _shapes_of_blocks(network):
        for is_nhwc, map_hw in ((False, shape[2:]), (True, shape[1:3])):
            stride = stride_of(PROBE_HW, map_hw)
            if stride is not None:
                last_of_stride[stride] = (block, is_nhwc)
                break
    require_pyramid_strides(last_of_stride)
    ends = {level: last_of_stride[stride] for level, stride in zip(LEVELS, PYRAMID_STRIDES, strict=True)}
    taps = {block: level for level, (block, _) in ends.items()}
    return taps, {level for level, (_, is_nhwc) in ends.items() if is_nhwc}


def _shapes_of_blocks(network: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    """Return the output shape (4 numbers) of each block, in the order in which the blocks run."""
    shapes: list[tuple[str, tuple[int, ...]]] = []

    def record(block: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.ndim == 4:
                shapes.append((block, tuple(output.shape)))

        return hook

    handles = [module.register_forward_hook(record(name)) for name, module in _blocks(network)]
    try:
        run_on_meta(network, PROBE_HW)
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def _blocks(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the network's children, and the children of the container that holds all of its layers, if it has one.

    Smaller modules do not qualify: the first convolution of a block may still have the stride of the previous stage.
    """
    for name, child in network.named_children():
        yield name, child
        if name in ("features", "layers", "trunk_output"):
            yield from ((f"{name}.{part}", module) for part, module in child.named_children())
