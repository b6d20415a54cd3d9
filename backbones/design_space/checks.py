"""Which combinations of fields are no network, and why. Torch-free: the API refuses them too."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from backbones.design_space.plan import STEM_STRIDES, Convolution, by_stage, plan_stages, stem_convolutions

if TYPE_CHECKING:
    from backbones.design_space.spec import DesignSpec

_PYRAMID_STRIDES = (8, 16, 32)
_MIN_NON_LOCAL_STRIDE = 8


def check(spec: "DesignSpec") -> None:
    """Raise a ValueError with the name of a field, what is wrong with it and what would be right."""
    for problems in (_shapes, _combination, _block, _channels, _deformable, _attention):
        for field, message in problems(spec):
            raise ValueError(f"{field}: {message}")


Problems = Iterator[tuple[str, str]]


def _shapes(spec: "DesignSpec") -> Problems:
    if spec.widths is None and spec.combination == "add":
        yield "widths", "missing; give the channels of each stage, such as [64, 128, 256, 512], or a preset"
    num_stages = len(spec.depths)
    ratio = spec.attention.ratio if spec.attention else None
    values = {name: getattr(spec, name) for name in ("widths", "strides", "kernel", "ratio")} | {
        "attention.ratio": ratio
    }
    for name, value in values.items():
        if isinstance(value, tuple) and len(value) != num_stages:
            yield name, f"got {len(value)} values, and depths has {num_stages} stages; give one for each stage"
    strides, stride = [], STEM_STRIDES[spec.stem]
    for step in spec.strides:
        stride *= step
        strides.append(stride)
    if not {*_PYRAMID_STRIDES} <= {*strides} or max(strides) > 32:
        yield (
            "strides",
            f"got {list(spec.strides)}; behind the stem's stride of {STEM_STRIDES[spec.stem]} the stages have strides "
            f"{strides}, and a pyramid needs 8, 16 and 32 and none beyond: let the steps multiply to "
            f"{32 // STEM_STRIDES[spec.stem]}",
        )
    for kernel in by_stage(spec.kernel, num_stages):
        if kernel % 2 == 0:
            yield "kernel", f"got {kernel}; an even kernel shifts the map, choose 3, 5, 7, 9 or 11"


def _combination(spec: "DesignSpec") -> Problems:
    if spec.combination == "add":
        if spec.growth is not None:
            yield "growth", f"got {spec.growth}, and blocks are added; write combination: concatenate, or leave it out"
        return
    if spec.growth is None:
        yield "growth", "missing; concatenate needs the channels that each block adds, such as 32"
    if spec.widths is not None:
        yield "widths", f"got {list(spec.widths)}; with concatenate the channels follow from growth, leave it out"
    only = {"order": "pre", "downsampling": "pool", "mixing": "middle", "ratio_of": "output"}
    for name, needed in only.items():
        if getattr(spec, name) != needed:
            yield name, f"got {getattr(spec, name)!r}; concatenate needs {needed!r}, as in DenseNet"
    if spec.groups == "depthwise":
        yield "groups", "got 'depthwise', and a block of concatenate changes the channels; choose a number"
    for ratio in by_stage(spec.ratio, len(spec.depths)):
        if ratio < 1:
            yield "ratio", f"got {ratio:g}; a block of concatenate adds few channels, choose 1 or more, such as 4"
    if spec.layer_scale is not None:
        yield (
            "layer_scale",
            f"got {spec.layer_scale:g}; concatenate has no sum to stand in front of, leave it out",
        )
    if spec.stochastic_depth:
        yield (
            "stochastic_depth",
            (f"got {spec.stochastic_depth:g}; with concatenate a skipped block leaves its channels empty, write 0"),
        )


def _block(spec: "DesignSpec") -> Problems:
    ratios = by_stage(spec.ratio, len(spec.depths))
    if spec.mixing == "first" and (spec.groups != "depthwise" or min(ratios) <= 1):
        yield (
            "mixing",
            (
                f"got 'first' with groups {spec.groups!r} and ratio {min(ratios):g}; only the depthwise convolution of "
                "an inverted bottleneck moves up: write groups: depthwise and a ratio above 1, or mixing: middle"
            ),
        )
    if spec.ratio_of == "input" and min(ratios) < 1:
        yield "ratio_of", f"got 'input' with ratio {min(ratios):g}; a ratio below 1 is of the output"
    if spec.widths is not None:
        for width, ratio in zip(spec.widths, ratios, strict=True):
            if ratio < 1 and abs(width / ratio - round(width / ratio)) > 1e-6:
                yield "ratio", f"got {ratio:g}; {width} / {ratio:g} is no whole number of channels, choose such as 1/4"
    if spec.downsampling == "average_down" and not spec.projection:
        yield "projection", "got false; average_down pools in front of the projection, write true or in_block"


def _channels(spec: "DesignSpec") -> Problems:
    stages = plan_stages(spec)
    for number, stage in enumerate(stages, start=1):
        for convolution in (convolution for block in stage.blocks for convolution in block.convolutions):
            for channels in (convolution.in_channels, convolution.out_channels):
                if channels % convolution.groups:
                    yield (
                        "groups",
                        (
                            f"got {convolution.groups}; it does not divide the {channels} channels of the spatial "
                            f"convolution in stage {number}: choose a divisor, or change widths or ratio"
                        ),
                    )
    if spec.norm == "gn":
        for where, channels in _normed_channels(spec):
            if channels % spec.norm_groups:
                yield (
                    "norm_groups",
                    (
                        f"got {spec.norm_groups}; it does not divide the {channels} channels of {where}: choose a "
                        "divisor, or another norm"
                    ),
                )


def _normed_channels(spec: "DesignSpec") -> Iterator[tuple[str, int]]:
    """Yield every width that may have a norm."""
    for convolution in stem_convolutions(spec):
        yield "the stem", convolution.out_channels
    for number, stage in enumerate(plan_stages(spec), start=1):
        yield f"stage {number}", stage.in_channels
        yield f"stage {number}", stage.out_channels
        for block in stage.blocks:
            for convolution in block.convolutions:
                normed: Convolution = convolution
                yield f"stage {number}", normed.in_channels if spec.order == "pre" else normed.out_channels


def _deformable(spec: "DesignSpec") -> Problems:
    for number in spec.deformable:
        if number > len(spec.depths):
            yield "deformable", f"got stage {number}; the network has the stages 1 to {len(spec.depths)}"
    if spec.deformable and spec.groups == "depthwise":
        yield (
            "deformable",
            (
                "got depthwise convolutions, which are smaller than the dense one that finds their offsets; choose a "
                "number of groups, or leave it out"
            ),
        )


def _attention(spec: "DesignSpec") -> Problems:
    attention = spec.attention
    if attention is None:
        return
    every = range(1, len(spec.depths) + 1)
    for number in attention.stages or ():
        if number not in every:
            yield "attention.stages", f"got stage {number}; the network has the stages 1 to {len(spec.depths)}"
    for number in attention.stages or every:
        stage = plan_stages(spec)[number - 1]
        planned = [block.attention for block in stage.blocks if block.attention]
        if not planned:
            yield (
                "attention.position",
                (f"got 'before_last_block', and stage {number} has one block; choose 'last_block', or other stages"),
            )
        if attention.kind == "nl" and stage.stride < _MIN_NON_LOCAL_STRIDE:
            fine = [place for place in every if plan_stages(spec)[place - 1].stride >= _MIN_NON_LOCAL_STRIDE]
            yield (
                "attention.stages",
                (
                    f"got stage {number} for nl, where each cell of stride {stage.stride} looks at every other: 4 "
                    f"billion pairs in an image of 800x1333 pixels; choose among {', '.join(map(str, fine))}"
                ),
            )
        for channels, ratio in planned:
            if channels * ratio < 1:
                yield (
                    "attention.ratio",
                    (
                        f"got {ratio:g}, which leaves none of the {channels} channels in stage {number}; choose "
                        f"{1 / channels:.3g} or more"
                    ),
                )
