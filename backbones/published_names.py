"""Conversion of published state dicts to timm's names of networks of inverted residuals (MobileNet, EfficientNet).

The design space has a conversion of its own, `backbones.design_space.key_maps`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from backbones.weights import COUNTER

_TIMMS_BLOCK = re.compile(r"blocks\.\d+\.\d+\.")


@dataclass(frozen=True)
class NumberedBlocks:
    """Names that number all blocks of a network, where timm numbers the blocks of each stage.

    Attributes:
        around: timm's name of each module outside the blocks.
        block: the prefix of the names of a block's modules; `{}` stands for the block's number.
        first: the number of the first block.
        parts: timm's name of each module of a block.
        short_parts: the same for blocks without expansion, in which timm numbers the norms differently.
    """

    around: Mapping[str, str]
    block: str
    first: int
    parts: Mapping[str, str]
    short_parts: Mapping[str, str]


EFFICIENTNET_PYTORCH = NumberedBlocks(
    around={"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"},
    block="_blocks.{}.",
    first=0,
    parts={
        "_expand_conv": "conv_pw", "_bn0": "bn1",
        "_depthwise_conv": "conv_dw", "_bn1": "bn2",
        "_project_conv": "conv_pwl", "_bn2": "bn3",
    },
    short_parts={"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"},
)  # fmt: skip
"""The names of TensorFlow's checkpoints, which ports to PyTorch kept."""

TORCHVISION_MOBILENET_V2 = NumberedBlocks(
    around={
        "features.0.0": "conv_stem", "features.0.1": "bn1",
        "features.18.0": "conv_head", "features.18.1": "bn2",
        "classifier.1": "classifier",
    },
    block="features.{}.conv.",
    first=1,
    parts={"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2", "2": "conv_pwl", "3": "bn3"},
    short_parts={"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"},
)  # fmt: skip

SCHEMES = (EFFICIENTNET_PYTORCH, TORCHVISION_MOBILENET_V2)


def rename_to_timm(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return `state` with timm's names if it follows one of `SCHEMES`, otherwise unchanged.

    Args:
        state: the published state dict.
        own: the state dict of timm's network.
    """
    counted = {key for key in own if not key.endswith(COUNTER)}
    for scheme in SCHEMES:
        names = {published: timms for published, timms in _names(scheme, own) if published in state}
        if 2 * len(counted & set(names.values())) > len(counted) and not counted & state.keys():
            return {names.get(key, key): tensor for key, tensor in state.items()}
    return state


def _names(scheme: NumberedBlocks, own: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Yield the published name and timm's name of every tensor that the scheme covers."""
    published_of = {timms: published for published, timms in scheme.around.items()}
    numbers = {block: number for number, block in enumerate(dict.fromkeys(_blocks(own)), start=scheme.first)}
    for key in own:
        module, _, tensor = key.rpartition(".")
        found = _TIMMS_BLOCK.match(key)
        if found is None:
            if module in published_of:
                yield f"{published_of[module]}.{tensor}", key
            continue
        block = found[0]
        parts = scheme.parts if f"{block}conv_pwl.weight" in own else scheme.short_parts
        for published, timms in parts.items():
            if module == block + timms:
                yield f"{scheme.block.format(numbers[block])}{published}.{tensor}", key


def _blocks(own: Mapping[str, Tensor]) -> Iterator[str]:
    for key in own:
        if found := _TIMMS_BLOCK.match(key):
            yield found[0]
