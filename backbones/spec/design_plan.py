"""The plan of a design: every convolution with its channels, before anything is built. Torch-free."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from backbones.spec.design_fields import DesignFields
from backbones.spec.surgery import Attention

DEPTH_BASE, WIDTH_BASE, RESOLUTION_BASE = 1.2, 1.1, 1.15
"""Tan & Le 2019, arXiv 1905.11946: alpha, beta and gamma of compound scaling."""

BASE_IMAGE_PX = 224

STEM_STRIDES = {"7x7": 4, "deep": 4, "patchify": 4, "11x11": 4, "3x3": 2}

T = TypeVar("T")


@dataclass(frozen=True)
class Convolution:
    """A square convolution, padded so that only its stride shrinks the map."""

    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1


@dataclass(frozen=True)
class AttentionPlan:
    """An attention block.

    Attributes:
        kind: se, gc or nl.
        place: after the last spatial convolution ("mixing"), after the chain ("branch"), or after the block ("exit").
        channels: channels of its map.
        ratio: ratio of its inner channels to the channels of its map.
    """

    kind: Attention
    place: Literal["mixing", "branch", "exit"]
    channels: int
    ratio: float


@dataclass(frozen=True)
class BlockPlan:
    """One block.

    Attributes:
        convolutions: the chain of convolutions; a place is an index into it.
        mixing: the place of the last spatial convolution.
        normed, activated: the places that have a norm or an activation, which comes after the convolution (before it
            with the order `pre`).
        in_channels, out_channels, stride: those of the whole block.
        attention: the attention block, or None.
        drop_rate: the probability of skipping the block in training.
    """

    convolutions: tuple[Convolution, ...]
    mixing: int
    normed: frozenset[int]
    activated: frozenset[int]
    in_channels: int
    out_channels: int
    stride: int
    attention: AttentionPlan | None
    drop_rate: float

    @property
    def changes_shape(self) -> bool:
        """True if the output shape differs from the input shape, so that the shortcut cannot be the input itself."""
        return self.stride != 1 or self.in_channels != self.out_channels


@dataclass(frozen=True)
class StagePlan:
    """One stage.

    Attributes:
        stride: stride of its maps, in pixels.
        in_channels: output channels of the previous stage.
        entry: the convolution between the stages (with `separate`, and for the transition of `concatenate`), or None.
        is_pooled: whether the entry has 2x2 mean pooling.
        blocks: the blocks in their order.
        out_channels: channels of its maps.
    """

    stride: int
    in_channels: int
    entry: Convolution | None
    is_pooled: bool
    blocks: tuple[BlockPlan, ...]
    out_channels: int


def scale_width(width: int, factor: float, divisor: int = 8) -> int:
    """Return `width * factor` as a multiple of `divisor`.

    The result is the nearest multiple, or the next larger one if the nearest is more than 10 % too small. A factor of 1
    changes nothing.
    """
    if factor == 1:
        return width
    rounded = max(divisor, int(width * factor + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * width * factor else rounded + divisor


def scale_depth(depth: int, factor: float) -> int:
    """Return `depth * factor`, rounded up."""
    return math.ceil(depth * factor - 1e-9)


def image_size_px(spec: DesignFields) -> int:
    """Return the recommended image side."""
    return round(BASE_IMAGE_PX * math.pow(RESOLUTION_BASE, spec.compound))


def stem_width(spec: DesignFields) -> int:
    """Return the output channels of the stem."""
    default = spec.widths[0] if spec.widths else 2 * (spec.growth or 0)
    return _scaled(spec, spec.stem_width or default)


def _scaled(spec: DesignFields, width: int) -> int:
    """Return a width scaled by `compound`, as a multiple of 8 and of the numbers of groups."""
    groups = 1 if spec.groups == "depthwise" else spec.groups
    divisor = math.lcm(8, groups, spec.norm_groups if spec.norm == "gn" else 1)
    return scale_width(width, math.pow(WIDTH_BASE, spec.compound), divisor)


def stem_convolutions(spec: DesignFields) -> tuple[Convolution, ...]:
    """Return the convolutions of the stem."""
    width = stem_width(spec)
    half = max(1, width // 2)
    return {
        "7x7": (Convolution(3, width, 7, 2),),
        "deep": (Convolution(3, half, 3, 2), Convolution(half, half, 3), Convolution(half, width, 3)),
        "patchify": (Convolution(3, width, 4, 4),),
        "11x11": (Convolution(3, width, 11, 4),),
        "3x3": (Convolution(3, width, 3, 2),),
    }[spec.stem]


def by_stage(value: T | tuple[T, ...], num_stages: int) -> tuple[T, ...]:
    """Return one value per stage; a single value is repeated."""
    return value if isinstance(value, tuple) else (value,) * num_stages


def plan_stages(spec: DesignFields) -> tuple[StagePlan, ...]:
    """Return the stages of a design; its tuples must have one value per stage."""
    depths = [scale_depth(depth, math.pow(DEPTH_BASE, spec.compound)) for depth in spec.depths]
    rates = _drop_rates(spec, sum(depths))
    stages: list[StagePlan] = []
    channels, stride = stem_width(spec), STEM_STRIDES[spec.stem]
    for index, (depth, step) in enumerate(zip(depths, spec.strides, strict=True)):
        stride *= step
        entry = _entry(spec, index, channels, step)
        is_pooled = spec.downsampling == "pool" and step == 2
        block_in = entry.out_channels if entry else channels
        block_stride = step if spec.downsampling in ("in_block", "average_down") else 1
        blocks = []
        for number in range(depth):
            block = _block(spec, index, block_in, block_stride if number == 0 else 1, depth - number, next(rates))
            blocks.append(block)
            block_in = block.out_channels
        stages.append(StagePlan(stride, channels, entry, is_pooled, tuple(blocks), block_in))
        channels = block_in
    return tuple(stages)


def _drop_rates(spec: DesignFields, num_blocks: int) -> Iterator[float]:
    """Yield the drop rate of each block, growing from 0 to the full rate (Huang et al. 2016, arXiv 1603.09382)."""
    return (spec.stochastic_depth * index / max(1, num_blocks - 1) for index in range(num_blocks))


def block_widths(spec: DesignFields, index: int) -> tuple[int, int]:
    """Return the output channels of a block of a stage, and its inner channels by `ratio`."""
    ratio = by_stage(spec.ratio, len(spec.depths))[index]
    if spec.combination == "concatenate":
        growth = _scaled(spec, spec.growth or 0)
        return growth, round(growth * ratio)
    assert spec.widths is not None, "checked before"
    narrow = _scaled(spec, spec.widths[index])
    return (round(narrow / ratio), narrow) if ratio < 1 else (narrow, round(narrow * ratio))


def _entry(spec: DesignFields, index: int, channels: int, step: int) -> Convolution | None:
    if spec.combination == "concatenate":
        return Convolution(channels, channels // 2) if step == 2 else None
    out_channels, _ = block_widths(spec, index)
    if spec.downsampling == "separate" and (step == 2 or channels != out_channels):
        return Convolution(channels, out_channels, kernel=step, stride=step)
    return None


def _block(
    spec: DesignFields, index: int, in_channels: int, stride: int, num_remaining: int, drop_rate: float
) -> BlockPlan:
    out_channels, inner = block_widths(spec, index)
    ratio = by_stage(spec.ratio, len(spec.depths))[index]
    if spec.ratio_of == "input" and ratio > 1:
        inner = round(in_channels * ratio)
    chain, mixing = _chain(spec, index, in_channels, inner, out_channels, stride)
    if spec.combination == "concatenate":
        out_channels += in_channels
    return BlockPlan(
        convolutions=chain,
        mixing=mixing,
        normed=_normed(spec, len(chain), mixing),
        activated=_activated(spec, len(chain)),
        in_channels=in_channels,
        out_channels=out_channels,
        stride=stride,
        attention=_attention(spec, index, chain, mixing, out_channels, num_remaining),
        drop_rate=drop_rate,
    )


def _chain(
    spec: DesignFields, index: int, in_channels: int, inner: int, out_channels: int, stride: int
) -> tuple[tuple[Convolution, ...], int]:
    """Return the convolutions of a block, and the place of the last spatial one."""
    num_stages = len(spec.depths)
    kernel, ratio = by_stage(spec.kernel, num_stages)[index], by_stage(spec.ratio, num_stages)[index]

    def spatial(channels: int, out: int, stride: int) -> Convolution:
        return Convolution(channels, out, kernel, stride, channels if spec.groups == "depthwise" else spec.groups)

    if spec.combination == "concatenate":
        if ratio == 1:
            return (spatial(in_channels, out_channels, 1),), 0
        return (Convolution(in_channels, inner), spatial(inner, out_channels, 1)), 1
    if ratio == 1 and spec.groups == "depthwise":
        return (spatial(in_channels, in_channels, stride), Convolution(in_channels, out_channels)), 0
    if ratio == 1:
        return (spatial(in_channels, out_channels, stride), spatial(out_channels, out_channels, 1)), 1
    if spec.mixing == "first":
        mixed = spatial(in_channels, in_channels, stride)
        return (mixed, Convolution(in_channels, inner), Convolution(inner, out_channels)), 0
    mixed = spatial(inner, inner, stride)
    return (Convolution(in_channels, inner), mixed, Convolution(inner, out_channels)), 1


def _normed(spec: DesignFields, length: int, mixing: int) -> frozenset[int]:
    """Return the places with a norm. A single norm is at the spatial convolution, or at the entry with `order: pre`."""
    first = 0 if spec.order == "pre" else mixing
    kept = [first, *(place for place in reversed(range(length)) if place != first)]
    return frozenset(kept[: spec.norms or length])


def _activated(spec: DesignFields, length: int) -> frozenset[int]:
    """Return the places with an activation; with `order: post`, the last place's activation follows the sum."""
    if spec.order == "convnext":
        places, default = range(length - 1), 1
    else:
        places, default = range(length), length
    return frozenset(list(reversed(places))[: spec.activations or default])


def _attention(
    spec: DesignFields, index: int, chain: tuple[Convolution, ...], mixing: int, out_channels: int, num_remaining: int
) -> AttentionPlan | None:
    attention = spec.attention
    if attention is None or (attention.stages is not None and index + 1 not in attention.stages):
        return None
    if num_remaining != {"last_block": 1, "before_last_block": 2}.get(attention.position, num_remaining):
        return None
    ratio = by_stage(attention.inner_ratio, len(spec.depths))[index]
    if attention.position == "mixing":
        return AttentionPlan(attention.kind, "mixing", chain[mixing].out_channels, ratio)
    if attention.position == "residual":
        return AttentionPlan(attention.kind, "branch", chain[-1].out_channels, ratio)
    return AttentionPlan(attention.kind, "exit", out_channels, ratio)
