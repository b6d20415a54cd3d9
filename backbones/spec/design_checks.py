"""Rejection of field combinations that do not form a valid network. Torch-free, because the API rejects them too."""

from collections.abc import Iterator, Sequence

from backbones.spec.design_fields import DesignFields
from backbones.spec.design_plan import STEM_STRIDES, StagePlan, by_stage, plan_stages, stem_convolutions

Problems = Iterator[str]
"""Messages, each with a field's name, its problem and a valid choice."""

_PYRAMID_STRIDES = (8, 16, 32)
_MIN_NON_LOCAL_STRIDE = 8
_MAX_PARAMETERS = 2_000_000_000
"""Ten times ConvNeXt-L, 8 GB of weights: a larger design is most likely a typo and would exhaust the memory."""


def check(spec: DesignFields) -> None:
    """Raise a ValueError with the first problem, if any."""
    for problems in (_shapes, _combination, _block, _deformable):
        for problem in problems(spec):
            raise ValueError(problem)
    stages = plan_stages(spec)
    for problems_of_plan in (_size, _groups, _norm_groups, _attention):
        for problem in problems_of_plan(spec, stages):
            raise ValueError(problem)


def _shapes(spec: DesignFields) -> Problems:
    if spec.widths is None and spec.combination == "add":
        yield "widths: missing; give the channels of each stage, such as [64, 128, 256, 512], or a preset"
    num_stages = len(spec.depths)
    values = {name: getattr(spec, name) for name in ("widths", "strides", "kernel", "ratio")}
    if spec.attention is not None:
        values["attention.ratio"] = spec.attention.ratio
    for name, value in values.items():
        if isinstance(value, tuple) and len(value) != num_stages:
            yield f"{name}: got {len(value)} values, but depths has {num_stages} stages; give one value per stage"
    first = STEM_STRIDES[spec.stem]
    strides = [first]
    for step in spec.strides:
        strides.append(strides[-1] * step)
    if not {*_PYRAMID_STRIDES} <= {*strides[1:]} or strides[-1] > 32:
        yield (
            f"strides: got {list(spec.strides)}; after the stem's stride of {first} the stages have strides "
            f"{strides[1:]}, but a pyramid needs 8, 16 and 32 and no larger one: choose values with the product "
            f"{32 // first}"
        )
    for kernel in by_stage(spec.kernel, num_stages):
        if kernel % 2 == 0:
            yield f"kernel: got {kernel}; an even kernel shifts the map, choose 3, 5, 7, 9 or 11"


def _combination(spec: DesignFields) -> Problems:
    if spec.combination == "add":
        if spec.growth is not None:
            yield f"growth: got {spec.growth} with combination: add; write combination: concatenate, or remove growth"
        return
    if spec.growth is None:
        yield "growth: missing; concatenate needs the number of channels that each block adds, such as 32"
    if spec.widths is not None:
        yield f"widths: got {list(spec.widths)}; with concatenate the channels follow from growth: remove widths"
    needed = {"order": "pre", "downsampling": "pool", "mixing": "middle", "ratio_of": "output"}
    for name, value in needed.items():
        if getattr(spec, name) != value:
            yield f"{name}: got {getattr(spec, name)!r}; concatenate needs {value!r}, as in DenseNet"
    if spec.groups == "depthwise":
        yield "groups: got 'depthwise', but a block of concatenate changes the number of channels; choose a number"
    for ratio in by_stage(spec.ratio, len(spec.depths)):
        if ratio < 1:
            yield f"ratio: got {ratio:g}; with concatenate choose at least 1, such as 4"
    if spec.layer_scale is not None:
        yield f"layer_scale: got {spec.layer_scale:g}; concatenate has no sum: remove layer_scale"
    if spec.stochastic_depth:
        yield (
            f"stochastic_depth: got {spec.stochastic_depth:g}; with concatenate a skipped block would leave its "
            "channels empty: write 0"
        )


def _block(spec: DesignFields) -> Problems:
    ratios = by_stage(spec.ratio, len(spec.depths))
    if spec.mixing == "first" and (spec.groups != "depthwise" or min(ratios) <= 1):
        yield (
            f"mixing: got 'first' with groups {spec.groups!r} and ratio {min(ratios):g}; only the depthwise "
            "convolution of an inverted bottleneck can come first: write groups: depthwise and a ratio above 1, or "
            "mixing: middle"
        )
    if spec.ratio_of == "input" and min(ratios) < 1:
        yield f"ratio_of: got 'input' with ratio {min(ratios):g}; for a ratio below 1 write 'output'"
    if spec.widths is not None:
        for width, ratio in zip(spec.widths, ratios, strict=True):
            if ratio < 1 and abs(width / ratio - round(width / ratio)) > 1e-6:
                yield (
                    f"ratio: got {ratio:g}; {width} / {ratio:g} is not a whole number of channels: choose a divisor "
                    "such as 1/4"
                )
    if spec.downsampling == "average_down" and not spec.projection:
        yield "projection: got false; average_down pools before the projection: write true, or downsampling: in_block"


def _deformable(spec: DesignFields) -> Problems:
    for number in spec.deformable:
        if number > len(spec.depths):
            yield f"deformable: got stage {number}; the network has the stages 1 to {len(spec.depths)}"
    if spec.deformable and spec.groups == "depthwise":
        yield (
            "deformable: got depthwise convolutions, which are smaller than the dense one that predicts their offsets; "
            "choose a number of groups, or remove deformable"
        )


def _size(spec: DesignFields, stages: Sequence[StagePlan]) -> Problems:
    convolutions = [convolution for stage in stages for block in stage.blocks for convolution in block.convolutions]
    convolutions += [*stem_convolutions(spec), *(stage.entry for stage in stages if stage.entry)]
    num_parameters = sum(one.kernel**2 * one.in_channels * one.out_channels // one.groups for one in convolutions)
    if num_parameters > _MAX_PARAMETERS:
        field = "growth" if spec.combination == "concatenate" else "widths"
        yield (
            f"{field}: the convolutions have {num_parameters / 1e9:,.1f} billion parameters, but at most "
            f"{_MAX_PARAMETERS / 1e9:g} billion are allowed; reduce channels, depths, kernel or compound"
        )


def _groups(spec: DesignFields, stages: Sequence[StagePlan]) -> Problems:
    for number, stage in enumerate(stages, start=1):
        for convolution in (convolution for block in stage.blocks for convolution in block.convolutions):
            for channels in (convolution.in_channels, convolution.out_channels):
                if channels % convolution.groups:
                    yield (
                        f"groups: got {convolution.groups}; it does not divide the {channels} channels of the spatial "
                        f"convolution in stage {number}: choose a divisor, or change widths or ratio"
                    )


def _norm_groups(spec: DesignFields, stages: Sequence[StagePlan]) -> Problems:
    if spec.norm != "gn":
        return
    widths = [("the stem", convolution.out_channels) for convolution in stem_convolutions(spec)]
    for number, stage in enumerate(stages, start=1):
        where = f"stage {number}"
        widths += [(where, stage.in_channels), (where, stage.out_channels)]
        for convolution in (convolution for block in stage.blocks for convolution in block.convolutions):
            widths.append((where, convolution.in_channels if spec.order == "pre" else convolution.out_channels))
    for where, channels in widths:
        if channels % spec.norm_groups:
            yield (
                f"norm_groups: got {spec.norm_groups}; it does not divide the {channels} channels of {where}: choose "
                "a divisor, or another norm"
            )


def _attention(spec: DesignFields, stages: Sequence[StagePlan]) -> Problems:
    attention = spec.attention
    if attention is None:
        return
    chosen = attention.stages or range(1, len(stages) + 1)
    for number in chosen:
        if number > len(stages):
            yield f"attention.stages: got stage {number}; the network has the stages 1 to {len(stages)}"
        stage = stages[number - 1]
        planned = [block.attention for block in stage.blocks if block.attention]
        if not planned:
            yield (
                f"attention.position: got 'before_last_block', but stage {number} has a single block; choose "
                "'last_block', or other stages"
            )
        if attention.kind == "nl" and stage.stride < _MIN_NON_LOCAL_STRIDE:
            fine = [place for place, one in enumerate(stages, start=1) if one.stride >= _MIN_NON_LOCAL_STRIDE]
            yield (
                f"attention.stages: got stage {number} for nl, where each cell of stride {stage.stride} attends to "
                "every other: an image of 800x1333 pixels has billions of pairs; choose from "
                f"{', '.join(map(str, fine))}"
            )
        for one in planned:
            if one.channels * one.ratio < 1:
                yield (
                    f"attention.ratio: got {one.ratio:g}, which is less than one of the {one.channels} channels in "
                    f"stage {number}; choose at least {1 / one.channels:.3g}"
                )
