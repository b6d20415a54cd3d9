"""Settings of every head, with defaults, ranges and descriptions.

The job document's schema and help, the catalog and the constructors derive from these classes. A class with a field
`head` registers a head: the literal is its name, and `implementation` names the module that builds it. Torch-free.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from inspect import cleandoc
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from heads.loss_rows import METRIC_LOSSES

PyramidLevel = Literal["p3", "p4", "p5", "p6", "p7"]
Norm = Literal["none", "gn"]
LossNormalizer = Literal["global", "per_image", "ema"]
Pool = Literal["avg", "max", "avgmax"]
Miner = Literal["all", "hard", "semihard"]
# Type checkers do not accept a computed Literal.
if TYPE_CHECKING:
    MetricLoss: TypeAlias = str
else:
    MetricLoss = Literal[tuple(METRIC_LOSSES)]

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class HeadSpec(BaseModel):
    """Settings of one head. Unknown keys are rejected, and instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    kind: ClassVar[str]
    """Name of the head's kind of task, such as `detection`."""
    implementation: ClassVar[str]
    """`module:name` of the class or function that builds the head from its settings, see `heads.create`."""
    losses: ClassVar[tuple[str, ...]]
    """Names in `heads.loss_rows` of the losses that the head is, or can be, trained with."""
    paper: ClassVar[str | None] = None
    """arXiv id."""

    if TYPE_CHECKING:
        head: str

    @classmethod
    def summary(cls) -> str:
        """Return the first paragraph of the docstring as one line without a period."""
        return " ".join(cleandoc(cls.__doc__ or "").split("\n\n")[0].split()).removesuffix(".")


class DetectionHeadSpec(HeadSpec):
    """Settings of a head that finds boxes. Sizes are in pixels of the network's input."""

    kind = "detection"

    normalizer: LossNormalizer = Field(
        "global",
        description="the losses are divided by the number of positives: of all images (global), of each image before "
        "the mean over the images (per_image), or by its moving average over the steps (ema)",
    )


class DenseHeadSpec(DetectionHeadSpec):
    """Settings of a head that scores every cell of the pyramid."""

    levels: tuple[PyramidLevel, ...] = Field(
        ("p3", "p4", "p5", "p6", "p7"), description="pyramid levels to detect on, finest first"
    )
    num_convs: Annotated[int, Field(ge=0, le=8)] = Field(
        4, description="3x3 convolutions in each of the two towers, before the output convolution"
    )
    norm: Norm = Field("none", description="normalization after each convolution of the towers; gn: GroupNorm")
    bias_before_norm: bool = Field(
        False, description="the convolutions of the towers have a bias before their norm too, as in torchvision's FCOS"
    )
    cell_offset: Probability = Field(
        0.5,
        description="place of a cell's anchors or location, in strides from its left and top edges: 0.5 is its center; "
        "torchvision's detectors use 0",
    )
    score_threshold: Probability = Field(0.05, description="minimum score of a detection (exclusive)")
    nms_iou: Probability = Field(
        0.5, description="a detection that overlaps a better one of its class by more than this IoU is dropped"
    )
    candidates_per_level: Count = Field(
        1000, description="the best scores of each level that are kept before overlapping boxes are dropped"
    )
    max_detections: Count = Field(100, description="maximum number of detections per image")

    @field_validator("levels")
    @classmethod
    def _levels_ascend_and_are_unique(cls, levels: tuple[str, ...]) -> tuple[str, ...]:
        if not levels or list(levels) != sorted(set(levels)):
            raise ValueError("list each level once, finest first, such as [p3, p4, p5]")
        return levels


class RetinaNetHeadSpec(DenseHeadSpec):
    """RetinaNet: anchors of several scales and ratios on every pyramid level."""

    implementation = "heads.retinanet:RetinaNetHead"
    losses = ("focal", "smooth_l1", "l1", "giou")
    paper = "1708.02002"

    head: Literal["retinanet"]
    box_loss: Literal["smooth_l1", "l1", "giou"] = Field(
        "smooth_l1", description="loss of the boxes: smooth_l1 or l1 of the deltas, or giou of the decoded boxes"
    )
    anchor_scale: Positive = Field(4.0, description="side of a level's smallest anchors, in strides")
    scales_per_octave: Count = Field(3, description="number of anchor sizes from one level to the next")
    anchor_sizes: tuple[tuple[Positive, ...], ...] | None = Field(
        None,
        description="for each level, the sides of its square anchors in pixels, instead of anchor_scale and "
        "scales_per_octave, such as [[16, 24], [32, 48], [64, 96]] for levels: [p3, p4, p5]",
    )
    round_anchors: bool = Field(
        False, description="round half the width and height of anchors to whole pixels, as torchvision does"
    )
    aspect_ratios: tuple[Positive, ...] = Field(
        (0.5, 1.0, 2.0), min_length=1, description="height / width of the anchors of each size"
    )
    positive_iou: PositiveShare = Field(
        0.5, description="an anchor is assigned the box that it overlaps most if their IoU is at least this"
    )
    negative_iou: Probability = Field(
        0.4,
        description="an anchor whose IoU with every box is below this is background; between the two thresholds it is "
        "ignored",
    )
    crowd_iof: PositiveShare = Field(
        0.5, description="an anchor without a box is ignored if at least this share of its area is in one crowd region"
    )

    @model_validator(mode="after")
    def _thresholds_are_ordered(self) -> "RetinaNetHeadSpec":
        if self.negative_iou > self.positive_iou:
            raise ValueError(
                f"negative_iou: got {self.negative_iou} with positive_iou: {self.positive_iou}; choose at most "
                "positive_iou"
            )
        return self

    @model_validator(mode="after")
    def _sizes_belong_to_the_levels(self) -> "RetinaNetHeadSpec":
        if self.anchor_sizes is None:
            return self
        if len(self.anchor_sizes) != len(self.levels):
            raise ValueError(
                f"anchor_sizes: got {len(self.anchor_sizes)} lists for the {len(self.levels)} levels "
                f"{', '.join(self.levels)}; write one list for each level"
            )
        numbers = [len(sizes) for sizes in self.anchor_sizes]
        if len(set(numbers)) > 1 or 0 in numbers:
            raise ValueError(f"anchor_sizes: got lists of {numbers} sizes; write the same number for each level")
        return self

    @property
    def sizes_per_level(self) -> int:
        """Number of anchor sizes of each level."""
        return self.scales_per_octave if self.anchor_sizes is None else len(self.anchor_sizes[0])


class FCOSHeadSpec(DenseHeadSpec):
    """FCOS: locations instead of anchors, with centerness."""

    implementation = "heads.fcos:FCOSHead"
    losses = ("focal", "giou", "centerness")
    paper = "1904.01355"

    head: Literal["fcos"]
    norm: Norm = Field("gn", description="normalization after each convolution of the towers; gn: GroupNorm")
    box_loss: Literal["giou"] = Field("giou", description="loss of the boxes")
    box_weights: Literal["centerness", "equal"] = Field(
        "centerness",
        description="weights of positive locations in the loss of the boxes: their centerness (as in the paper), or "
        "equal (as in torchvision)",
    )
    center_sampling_radius: Positive = Field(
        1.5, description="a location is assigned a box only if it is less than this many strides from the box's center"
    )
    range_scale: Positive = Field(
        8.0, description="a level takes boxes whose farthest edge is at most this many strides away; the paper uses 8"
    )


class ClassificationHeadSpec(HeadSpec):
    """Settings of a head that classifies whole images: pooled features and a linear layer."""

    kind = "classification"
    is_multilabel: ClassVar[bool] = False
    """True if an image can have any number of classes; False if it has exactly one."""

    level: Literal["c3", "c4", "c5", "p3", "p4", "p5"] = Field(
        "c5", description="level of the backbone or the pyramid whose features are pooled"
    )
    pool: Pool = Field("avg", description="pooling over the map: mean, maximum, or both concatenated")
    dropout: ShareBelowOne = Field(0.0, description="probability of dropout before the linear layer")
    label_smoothing: ShareBelowOne = Field(
        0.0, description="share of the target that is spread evenly over all classes"
    )


class MulticlassHeadSpec(ClassificationHeadSpec):
    """Exactly one class per image."""

    implementation = "heads.classification:MulticlassHead"
    losses = ("cross_entropy",)

    head: Literal["multiclass"]


class MultilabelHeadSpec(ClassificationHeadSpec):
    """Any number of classes per image."""

    implementation = "heads.classification:MultilabelHead"
    losses = ("bce",)
    is_multilabel = True

    head: Literal["multilabel"]


class EmbeddingHeadSpec(HeadSpec):
    """Vectors of images or of objects that are close where identities are equal."""

    kind = "embedding"
    implementation = "heads.embedding:create_embedding_head"
    losses = tuple(METRIC_LOSSES)

    head: Literal["embedding"]
    of: Literal["image", "objects"] = Field("image", description="what is embedded: whole images, or boxes of objects")
    dim: Count = Field(128, description="length of the vectors")
    loss: MetricLoss = Field("proxy_anchor", description="name of the loss, see `GET /v1/catalog/losses`")
    miner: Miner = Field("semihard", description="selects the triplets that count; for loss: triplet")


def _registered(spec: type[HeadSpec]) -> Iterator[tuple[str, type[HeadSpec]]]:
    """Yield the name and class of every head that derives from a class, in the order of the file."""
    if "head" in vars(spec).get("__annotations__", {}):
        yield get_args(spec.model_fields["head"].annotation)[0], spec
    for subclass in spec.__subclasses__():
        yield from _registered(subclass)


HEAD_SPECS: dict[str, type[HeadSpec]] = dict(_registered(HeadSpec))
"""All heads by name: the classes above that have a field `head`."""


def head_spec(name: str, **options: Any) -> HeadSpec:
    """Return the settings of a head by its name.

    Raises:
        ValueError: the name is unknown, or an option is unknown or out of its range.
    """
    if name not in HEAD_SPECS:
        nearest = get_close_matches(name, HEAD_SPECS, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ValueError(f"head {name!r} is not in the catalog; {hint}choose from {sorted(HEAD_SPECS)}")
    return HEAD_SPECS[name].model_validate({"head": name, **options})
