"""The fields of a design: everything that distinguishes one network of the design space. Torch-free."""

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
    """Attention blocks that are part of the network; `AttentionSpec` describes the kinds.

    | position | where the attention block is inserted |
    |---|---|
    | residual | in every block, before the sum (SENet, GCNet) |
    | mixing | in every block, after its last spatial convolution (EfficientNet) |
    | every_block | after every block of the stage |
    | last_block | after the last block of the stage |
    | before_last_block | before the last block of the stage (NLNet) |
    """

    kind: Attention
    position: AttentionPosition = "residual"
    stages: StageNumbers | None = Field(None, min_length=1, description="stage numbers, from 1; by default all stages")
    ratio: InnerRatio | tuple[InnerRatio, ...] | None = Field(
        None,
        description="inner channels of the attention block / channels of the map, one value or one per stage; by "
        "default 1/16, or 1/2 for nl",
    )

    @property
    def inner_ratio(self) -> float | tuple[float, ...]:
        """Ratio of the block's inner channels to the map's channels."""
        return DEFAULT_RATIOS[self.kind] if self.ratio is None else self.ratio


def _from_kind(given: Any) -> Any:
    if isinstance(given, str):
        return None if given == "none" else {"kind": given}
    return given


class DesignFields(Section):
    """A stem followed by stages of identical blocks. `preset` fills in every field; other given fields override it.

    A block is a chain of convolutions, each with a norm and an activation, in parallel with a shortcut. "KxK" is a
    spatial convolution with the size `kernel`:

    | ratio | groups | convolutions |
    |---|---|---|
    | 1 | a number | KxK, KxK (ResNet-18) |
    | 1 | depthwise | KxK, 1x1 (MobileNetV1) |
    | other | any | 1x1, KxK, 1x1 (ResNet-50, MobileNetV2) |
    | above 1, with `mixing: first` | depthwise | KxK, 1x1, 1x1 (ConvNeXt) |

    With `combination: concatenate` the chain is KxK (ratio 1) or 1x1, KxK (DenseNet-BC).

    | order | layers of the chain |
    |---|---|
    | post | convolution, norm, activation; the last activation follows the sum (He et al. 2015, arXiv 1512.03385) |
    | pre | norm, activation, convolution; nothing follows the sum (He et al. 2016, arXiv 1603.05027) |
    | convnext | convolution, norm, activation; nothing follows the sum (Liu et al. 2022, arXiv 2201.03545) |
    """

    OLD_NAMES: ClassVar[Mapping[str, str]] = {"initialisation": "initialization"}

    preset: str | None = Field(None, description="preset that fills in every field; other given fields override it")

    depths: tuple[Depth, ...] = Field(min_length=3, max_length=16, description="number of blocks in each stage")
    widths: tuple[Width, ...] | None = Field(
        None,
        description="channels at the narrow end of the blocks of each stage; a block with ratio 1/4 outputs four times "
        "as many",
    )
    strides: tuple[Literal[1, 2], ...] = Field(
        (1, 2, 2, 2),
        description="stride of each stage; 2 halves the map. The stages must produce maps with strides 8, 16 and 32",
    )

    stem: Stem = Field(
        "7x7",
        description="first layers. 7x7 and deep (three 3x3): stride 4 with pooling; patchify and 11x11: stride 4; "
        "3x3: stride 2",
    )
    stem_width: Width | None = Field(
        None, description="output channels of the stem; by default the first of widths, or 2 * growth for concatenate"
    )

    order: Order = Field("post", description="order of convolution, norm and activation in a block")
    groups: Count | Literal["depthwise"] = Field(1, description="groups of the spatial convolutions; 1 is dense")
    kernel: Kernel | tuple[Kernel, ...] = Field(
        3, description="size of the spatial convolutions, odd, 3 to 11; one value or one per stage"
    )
    deformable: StageNumbers = Field(
        (), description="numbers of the stages, from 1, whose spatial convolutions are deformable"
    )
    ratio: Ratio | tuple[Ratio, ...] = Field(
        1.0, description="inner channels / output channels of a block; one value or one per stage"
    )
    ratio_of: Literal["output", "input"] = Field(
        "output", description="with input, ratio is inner channels / input channels (MobileNetV2)"
    )
    mixing: Literal["middle", "first"] = Field("middle", description="place of the spatial convolution in the chain")

    norm: Norm = Field("bn", description="batch norm, group norm, or layer norm (ln) over the channels of each cell")
    norm_groups: Count = Field(32, description="number of groups of gn")
    norms: Count | None = Field(
        None,
        description="maximum number of norms in a block; by default one per convolution. The norm of the spatial "
        "convolution is removed last",
    )
    activation: Activation = Field(
        "relu", description="activation in the blocks, and in the stem unless that is patchify"
    )
    activations: Count | None = Field(
        None,
        description="maximum number of activations in a block; by default one per convolution, or one in total for "
        "the order convnext. Those of early convolutions are removed first; with the order post, the one after the sum "
        "is always kept",
    )

    downsampling: Downsampling = Field(
        "in_block",
        description="layer that halves the map. in_block: the first spatial convolution of a stage; average_down: the "
        "same, with a pooled shortcut; separate: norm and 2x2 convolution between stages; pool: 2x2 mean between them",
    )
    projection: bool = Field(
        True,
        description="use a 1x1 convolution as the shortcut where the shape changes; false: omit the shortcut there "
        "(MobileNetV2)",
    )
    attention: Annotated[DesignAttention | None, BeforeValidator(_from_kind)] = Field(
        None, description="attention blocks: a kind, or fields of DesignAttention"
    )
    combination: Literal["add", "concatenate"] = Field(
        "add", description="combination of a block's output with its input: sum, or concatenation (DenseNet)"
    )
    growth: Width | None = Field(None, description="channels that each block adds; for concatenate only")
    layer_scale: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="initial value of a learned factor per channel before the sum; by default there is no factor"
    )
    stochastic_depth: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="probability of skipping the last block in training; it grows linearly from 0 at the first"
    )
    initialization: Literal["kaiming", "truncated_normal"] = Field(
        "kaiming",
        description="kaiming: normal distribution scaled by fan-out; truncated_normal: standard deviation 0.02",
    )
    compound: Annotated[float, Field(ge=0, le=8)] = Field(
        0.0,
        description="compound scaling coefficient: depths * 1.2**compound, rounded up; widths * 1.1**compound, rounded "
        "to multiples of 8 and of groups; recommended images of 224 * 1.15**compound pixels",
    )
