"""The fields that describe a network. Torch-free."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from backbones.spec.section import Section, in_order
from backbones.spec.surgery import DEFAULT_RATIOS, Attention

Depth = Annotated[int, Field(ge=1, le=100)]
Width = Annotated[int, Field(ge=1, le=8192)]
Count = Annotated[int, Field(ge=1, le=8192)]
Kernel = Annotated[int, Field(ge=3, le=11)]
Ratio = Annotated[float, Field(ge=1 / 64, le=8)]
InnerRatio = Annotated[float, Field(gt=0, le=1)]
StageNumbers = Annotated[tuple[Annotated[int, Field(ge=1)], ...], AfterValidator(in_order)]

Stem = Literal["7x7", "deep", "patchify", "11x11", "3x3"]
Order = Literal["post", "pre", "convnext"]
Norm = Literal["bn", "gn", "ln"]
Activation = Literal["relu", "relu6", "silu", "gelu"]
Downsampling = Literal["in_block", "average_down", "separate", "pool"]
AttentionPosition = Literal["residual", "mixing", "every_block", "before_last_block", "last_block"]


class DesignAttention(Section):
    """Blocks that look at the whole map, as the network is built with them; what `kind` means: see `AttentionSpec`.

    | position | the block stands |
    |---|---|
    | residual | in every block, before the sum (SENet, GCNet) |
    | mixing | in every block, behind its last spatial convolution (EfficientNet) |
    | every_block, last_block, before_last_block | behind all, the last or the last but one block of the stage (NLNet) |
    """

    kind: Attention
    position: AttentionPosition = "residual"
    stages: StageNumbers | None = Field(None, min_length=1, description="counted from 1; default all")
    ratio: InnerRatio | tuple[InnerRatio, ...] | None = Field(
        None, description="channels inside over those of the map, also by stage; default 1/16, of nl 1/2"
    )

    @property
    def inner_ratio(self) -> float | tuple[float, ...]:
        """Channels inside the block over those of the map."""
        return DEFAULT_RATIOS[self.kind] if self.ratio is None else self.ratio


def _of_kind(given: Any) -> Any:
    if isinstance(given, str):
        return None if given == "none" else {"kind": given}
    return given


class DesignFields(Section):
    """A stem, and stages of like blocks. `preset` fills in every field; fields beside it change it.

    A block is a chain of convolutions, each with a norm and an activation, beside a shortcut:

    | ratio | groups | convolutions |
    |---|---|---|
    | 1 | a number | two of the kernel (ResNet-18) |
    | 1 | depthwise | one of the kernel, 1x1 (MobileNetV1) |
    | other | any | 1x1, one of the kernel, 1x1 (ResNet-50, MobileNetV2) |
    | above 1, mixing first | depthwise | one of the kernel, 1x1, 1x1 (ConvNeXt) |

    With `combination: concatenate` it is one of the kernel alone (ratio 1), or 1x1 before it (DenseNet-BC).

    | order | of the chain |
    |---|---|
    | post | convolution, norm, activation; the last activation behind the sum (He et al. 2015, arXiv 1512.03385) |
    | pre | norm, activation, convolution; nothing behind the sum (He et al. 2016, arXiv 1603.05027) |
    | convnext | convolution, norm, activation; nothing behind the sum (Liu et al. 2022, arXiv 2201.03545) |
    """

    OLD_NAMES: ClassVar[Mapping[str, str]] = {"initialisation": "initialization"}

    preset: str | None = Field(None, description="fills in every field; those given beside it change it")

    depths: tuple[Depth, ...] = Field(min_length=3, max_length=16, description="blocks by stage")
    widths: tuple[Width, ...] | None = Field(
        None,
        description="channels by stage of a block's narrow end; a block with ratio 1/4 hands out four times as many",
    )
    strides: tuple[Literal[1, 2], ...] = Field(
        (1, 2, 2, 2), description="by stage; 2 halves the map. Maps of strides 8, 16 and 32 must come out"
    )

    stem: Stem = Field(
        "7x7", description="7x7, deep (three 3x3): stride 4 with a pooling; patchify, 11x11: stride 4; 3x3: stride 2"
    )
    stem_width: Width | None = Field(None, description="default the first of widths; of concatenate 2 * growth")

    order: Order = Field("post", description="of convolution, norm and activation in a block")
    groups: Count | Literal["depthwise"] = Field(1, description="of the spatial convolutions; 1: dense")
    kernel: Kernel | tuple[Kernel, ...] = Field(3, description="odd, 3 to 11, also by stage")
    deformable: StageNumbers = Field((), description="stages, counted from 1, that learn where to look")
    ratio: Ratio | tuple[Ratio, ...] = Field(
        1.0, description="channels inside a block over those that it hands out, also by stage"
    )
    ratio_of: Literal["output", "input"] = Field("output", description="input: over those that it gets (MobileNetV2)")
    mixing: Literal["middle", "first"] = Field("middle", description="where in the chain the spatial convolution is")

    norm: Norm = Field("bn", description="batch, group, or layer norm, that over the channels of each cell")
    norm_groups: Count = Field(32, description="of gn")
    norms: Count | None = Field(
        None, description="in a block, at most; default one a convolution. The spatial convolution keeps it longest"
    )
    activation: Activation = Field("relu", description="in a block, and in the stem unless that takes patches")
    activations: Count | None = Field(
        None,
        description="in a block, at most; default one a convolution, of convnext one. Those in front of late "
        "convolutions are kept longest; the one behind the sum of post always",
    )

    downsampling: Downsampling = Field(
        "in_block",
        description="in_block: the first spatial convolution of a stage; average_down: so too, and the shortcut is "
        "pooled; separate: norm and 2x2 convolution between stages; pool: 2x2 mean between stages",
    )
    projection: bool = Field(
        True,
        description="where the shape changes, the shortcut is a 1x1 convolution; false: there is none (MobileNetV2)",
    )
    attention: Annotated[DesignAttention | None, BeforeValidator(_of_kind)] = Field(
        None, description="blocks that look at the whole map; a kind alone will do"
    )
    combination: Literal["add", "concatenate"] = Field(
        "add", description="what a block does with its new map: add it to the old one, or stand beside it (DenseNet)"
    )
    growth: Width | None = Field(None, description="of concatenate: channels that each block adds")
    layer_scale: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="a factor for each channel in front of the sum, and where it starts"
    )
    stochastic_depth: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="how often the last block is skipped in training; earlier ones less, in proportion"
    )
    initialization: Literal["kaiming", "truncated_normal"] = Field(
        "kaiming", description="kaiming: normal, by fan-out; truncated_normal: of deviation 0.02"
    )
    compound: Annotated[float, Field(ge=0, le=8)] = Field(
        0.0,
        description="depths * 1.2**compound rounded up, widths * 1.1**compound to multiples of 8 and of groups; "
        "for images of 224 * 1.15**compound pixels",
    )
