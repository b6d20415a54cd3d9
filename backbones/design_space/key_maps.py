"""Conversion of state dicts published by timm and torchvision to the parameter names of the design space.

A scheme describes the names that a library gives to one family. A file is assumed to follow the scheme that matches
most of its keys.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from backbones.spec.design import DesignSpec

Names = Mapping[str, str]
"""The published name of a module or parameter, keyed by its name in the design space."""


@dataclass(frozen=True)
class Scheme:
    """The names that a library gives to the modules of one family.

    Published names may contain `{stage}` and `{block}`, counted from 0; `{stage1}`, `{block1}` and `{number1}`, counted
    from 1, where `{number1}` counts all blocks of the network; `{twice}`, twice the stage; and `{twice1}`, that plus 1.

    Attributes:
        around: names of modules outside the stages.
        entry: names of modules between the stages.
        block: the prefix of the names of a block's modules.
        parts: names of the modules of a block.
        short_parts: names of the modules of a block of two convolutions, if they differ.
    """

    around: Names
    block: str
    parts: Names
    entry: Names | None = None
    short_parts: Names | None = None


def _numbered(convolution: str, norm: str, *, norm_in_front: bool = False) -> Names:
    """Return the names of up to three convolutions and their norms; `{}` stands for the number."""
    names = {}
    for n in (1, 2, 3):
        names[f"branch.conv{n}"] = convolution.format(n)
        names[f"{'entry' if norm_in_front and n == 1 else 'branch'}.norm{n}"] = norm.format(n)
    return names


def _chain(*published: str) -> Names:
    """Return names for convolutions and norms, which alternate."""
    ours = (f"branch.{kind}{n}" for n in (1, 2, 3) for kind in ("conv", "norm"))
    return dict(zip(ours, published, strict=False))


_RESNET = Scheme(
    around={"stem.conv1": "conv1", "stem.norm1": "bn1"},
    block="layer{stage1}.{block}.",
    parts={
        **_numbered("conv{}", "bn{}"),
        "branch.attention": "se",
        "shortcut.conv": "downsample.0",
        "shortcut.norm": "downsample.1",
    },
)

_RESNET_V2_TIMM = Scheme(
    around={"stem.conv1": "stem.conv"},
    block="stages.{stage}.blocks.{block}.",
    parts={**_numbered("conv{}", "norm{}", norm_in_front=True), "shortcut.conv": "downsample.conv"},
)


def _densenet(convolution: str, norm: str) -> Scheme:
    return Scheme(
        around={"stem.conv1": "features.conv0", "stem.norm1": "features.norm0", "exit.norm": "features.norm5"},
        entry={"norm": "features.transition{stage}.norm", "conv": "features.transition{stage}.conv"},
        block="features.denseblock{stage1}.denselayer{block1}.",
        parts=_numbered(convolution, norm, norm_in_front=True),
    )


_CONVNEXT_TIMM = Scheme(
    around={"stem.conv1": "stem.0", "stem.norm1": "stem.1"},
    entry={"norm": "stages.{stage}.downsample.0", "conv": "stages.{stage}.downsample.1"},
    block="stages.{stage}.blocks.{block}.",
    parts={
        "branch.conv1": "conv_dw",
        "branch.norm1": "norm",
        "branch.conv2": "mlp.fc1",
        "branch.conv3": "mlp.fc2",
        "branch.layer_scale.gamma": "gamma",
    },
)

_CONVNEXT_TORCHVISION = Scheme(
    around={"stem.conv1": "features.0.0", "stem.norm1": "features.0.1"},
    entry={"norm": "features.{twice}.0", "conv": "features.{twice}.1"},
    block="features.{twice1}.{block}.",
    parts={
        "branch.conv1": "block.0",
        "branch.norm1": "block.2",
        "branch.conv2": "block.3",
        "branch.conv3": "block.5",
        "branch.layer_scale.gamma": "layer_scale",
    },
)

_SE_TIMM = {"branch.attention.fc1": "se.conv_reduce", "branch.attention.fc2": "se.conv_expand"}

_MOBILE_TIMM = Scheme(
    around={"stem.conv1": "conv_stem", "stem.norm1": "bn1"},
    block="blocks.{stage}.{block}.",
    parts={**_chain("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"), **_SE_TIMM},
    short_parts={**_chain("conv_dw", "bn1", "conv_pw", "bn2"), **_SE_TIMM},
)

_MOBILENET_V2_TORCHVISION = Scheme(
    around={"stem.conv1": "features.0.0", "stem.norm1": "features.0.1"},
    block="features.{number1}.conv.",
    parts=_chain("0.0", "0.1", "1.0", "1.1", "2", "3"),
    short_parts=_chain("0.0", "0.1", "1", "2"),
)

_EFFICIENTNET_TORCHVISION = Scheme(
    around={"stem.conv1": "features.0.0", "stem.norm1": "features.0.1"},
    block="features.{stage1}.{block}.block.",
    parts={**_chain("0.0", "0.1", "1.0", "1.1", "3.0", "3.1"), "branch.attention": "2"},
    short_parts={**_chain("0.0", "0.1", "2.0", "2.1"), "branch.attention": "1"},
)

SCHEMES = (
    _RESNET,
    _RESNET_V2_TIMM,
    _densenet("conv{}", "norm{}"),
    _densenet("conv.{}", "norm.{}"),  # old files of torchvision; torch has since forbidden dots in module names
    _CONVNEXT_TIMM,
    _CONVNEXT_TORCHVISION,
    _MOBILE_TIMM,
    _MOBILENET_V2_TORCHVISION,
    _EFFICIENTNET_TORCHVISION,
)


def rename_published(spec: DesignSpec, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `state` with the names of the network that `spec` describes.

    Keys that do not match the scheme keep their name; a file with the names of the design space is unchanged. The
    weight of a linear layer is reshaped for a 1x1 convolution.

    Args:
        own: the state dict of the network.
    """
    best: Mapping[str, str] = {key: key for key in own}
    for scheme in SCHEMES:
        published = dict(_published_names(spec, scheme, own))
        if len(published.keys() & state.keys()) > len(best.keys() & state.keys()):
            best = published
    renamed = {best.get(key, key): value for key, value in state.items()}
    return {key: _shaped_like(own[key], value) if key in own else value for key, value in renamed.items()}


def _published_names(spec: DesignSpec, scheme: Scheme, own: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Yield the published name and the own name of every tensor that the scheme covers."""
    modules = dict(_modules(spec, scheme))
    for key in own:
        for end in range(len(key), 0, -1):
            if (end == len(key) or key[end] == ".") and key[:end] in modules:
                yield modules[key[:end]] + key[end:], key
                break


def _modules(spec: DesignSpec, scheme: Scheme) -> Iterator[tuple[str, str]]:
    """Yield the own name and the published name of every module, and of parameters outside of a module."""
    yield from scheme.around.items()
    number = 0
    for index, stage in enumerate(spec.stages):
        places = {"stage": index, "stage1": index + 1, "twice": 2 * index, "twice1": 2 * index + 1}
        for ours, published in (scheme.entry or {}).items():
            yield f"stages.{index}.entry.{ours}", published.format(**places)
        for place, block in enumerate(stage.blocks):
            number += 1
            prefix = scheme.block.format(block=place, block1=place + 1, number1=number, **places)
            is_short = len(block.convolutions) == 2
            for ours, published in ((is_short and scheme.short_parts) or scheme.parts).items():
                yield f"stages.{index}.{place}.{ours}", prefix + published


def _shaped_like(own: Tensor, value: Tensor) -> Tensor:
    """Return `value` in the shape of `own` if the shapes differ only by axes of length 1."""
    same = [size for size in own.shape if size != 1] == [size for size in value.shape if size != 1]
    return value.reshape(own.shape) if same else value
