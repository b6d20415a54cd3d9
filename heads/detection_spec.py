"""Settings of the heads that find boxes, with defaults, ranges and descriptions. Torch-free."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from heads.head_spec import Count, HeadSpec, Positive, PositiveShare, Probability, PyramidLevel

Norm = Literal["none", "gn"]


class DetectionHeadSpec(HeadSpec):
    """Settings of a head that finds boxes. Sizes are in pixels of the network's input."""

    kind = "detection"


class DenseHeadSpec(DetectionHeadSpec):
    """Settings of a head that scores every cell of the pyramid."""

    levels: tuple[PyramidLevel, ...] = Field(
        ("p3", "p4", "p5", "p6", "p7"), description="pyramid levels to detect on, finest first"
    )
    num_convs: Annotated[int, Field(ge=0, le=8)] = Field(
        4, description="3x3 convolutions in each of the two towers, before the output convolution"
    )
    norm: Norm = Field("none", description="normalization after each convolution of the towers; gn: GroupNorm")
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
    losses = ("focal", "smooth_l1", "giou")
    paper = "1708.02002"

    head: Literal["retinanet"]
    box_loss: Literal["smooth_l1", "giou"] = Field(
        "smooth_l1", description="loss of the boxes: smooth_l1 of the deltas, or giou of the decoded boxes"
    )
    anchor_scale: Positive = Field(4.0, description="side of a level's smallest anchors, in strides")
    scales_per_octave: Count = Field(3, description="number of anchor sizes from one level to the next")
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


class FCOSHeadSpec(DenseHeadSpec):
    """FCOS: locations instead of anchors, with centerness."""

    implementation = "heads.fcos:FCOSHead"
    losses = ("focal", "giou", "centerness")
    paper = "1904.01355"

    head: Literal["fcos"]
    norm: Norm = Field("gn", description="normalization after each convolution of the towers; gn: GroupNorm")
    box_loss: Literal["giou"] = Field("giou", description="loss of the boxes")
    center_sampling_radius: Positive = Field(
        1.5, description="a location is assigned a box only if it is less than this many strides from the box's center"
    )
    range_scale: Positive = Field(
        8.0, description="a level takes boxes whose farthest edge is at most this many strides away; the paper uses 8"
    )
