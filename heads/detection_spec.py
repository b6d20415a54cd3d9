"""Settings of the heads that find boxes, with defaults, ranges and descriptions. Torch-free."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from heads.head_spec import (
    Count,
    HeadSpec,
    Positive,
    PositiveShare,
    Probability,
    PyramidLevel,
    SmallCount,
    Width,
)

Norm = Literal["none", "gn"]
LossNormalizer = Literal["global", "per_image", "ema"]
NumConvs = Annotated[int, Field(ge=0, le=8)]


def _finest_first(levels: tuple[str, ...]) -> tuple[str, ...]:
    if not levels or list(levels) != sorted(set(levels)):
        raise ValueError("list each level once, finest first, such as [p3, p4, p5]")
    return levels


Levels = Annotated[tuple[PyramidLevel, ...], AfterValidator(_finest_first)]


class DetectionHeadSpec(HeadSpec):
    """Settings of a head that finds boxes on a pyramid. Sizes are in pixels of the network's input."""

    kind = "detection"

    normalizer: LossNormalizer = Field(
        "global",
        description="the losses are divided by the number of positives (faster_rcnn: of samples): of all images "
        "(global), of each image before the mean over the images (per_image), or by its moving average over the steps "
        "(ema)",
    )
    levels: Levels = Field(("p3", "p4", "p5", "p6", "p7"), description="pyramid levels to detect on, finest first")
    cell_offset: Probability = Field(
        0.5,
        description="place of a cell's anchors or location, in strides from its left and top edges: 0.5 is its center; "
        "torchvision's detectors use 0",
    )
    score_threshold: Probability = Field(0.05, description="minimum score of a detection (exclusive)")
    nms_iou: Probability = Field(
        0.5, description="a detection that overlaps a better one of its class by more than this IoU is dropped"
    )
    soft_nms_sigma: Positive | None = Field(
        None,
        description="Soft-NMS instead of nms_iou: detections keep their place, but lower the scores of others of their "
        "class by the factor exp(-IoU^2 / sigma); the paper uses 0.5",
    )
    candidates_per_level: Count = Field(
        1000, description="the best scores of each level that are kept before overlapping boxes are dropped"
    )
    max_detections: Count = Field(100, description="maximum number of detections per image")


class DenseHeadSpec(DetectionHeadSpec):
    """Settings of a head that scores every cell of the pyramid."""

    decoder = "heads.dense:decode_rows"

    num_convs: NumConvs = Field(
        4, description="3x3 convolutions in each of the two towers, before the output convolution"
    )
    norm: Norm = Field("none", description="normalization after each convolution of the towers; gn: GroupNorm")
    bias_before_norm: bool = Field(
        False, description="the convolutions of the towers have a bias before their norm too, as in torchvision's FCOS"
    )


class AnchorHeadSpec(DetectionHeadSpec):
    """Settings of a head with anchors: boxes of several sizes and shapes on every cell of the pyramid."""

    anchor_scale: Positive = Field(4.0, description="side of a level's smallest anchors, in strides")
    scales_per_octave: SmallCount = Field(3, description="number of anchor sizes from one level to the next")
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
    def _thresholds_are_ordered(self) -> "AnchorHeadSpec":
        _require_order(self, "negative_iou", "positive_iou")
        return self

    @model_validator(mode="after")
    def _sizes_belong_to_the_levels(self) -> "AnchorHeadSpec":
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
    def anchors_per_cell(self) -> int:
        """Number of anchors of each cell."""
        num_sizes = self.scales_per_octave if self.anchor_sizes is None else len(self.anchor_sizes[0])
        return num_sizes * len(self.aspect_ratios)


class RetinaNetHeadSpec(AnchorHeadSpec, DenseHeadSpec):
    """RetinaNet: anchors of several scales and ratios on every pyramid level."""

    implementation = "heads.retinanet:RetinaNetHead"
    losses = ("focal", "smooth_l1", "l1", "giou")
    paper = "1708.02002"

    head: Literal["retinanet"]
    box_loss: Literal["smooth_l1", "l1", "giou"] = Field(
        "smooth_l1", description="loss of the boxes: smooth_l1 or l1 of the deltas, or giou of the decoded boxes"
    )


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


class FasterRCNNHeadSpec(AnchorHeadSpec):
    """Faster R-CNN: proposals from anchors on every pyramid level, then classes and boxes from their features."""

    implementation = "heads.faster_rcnn:FasterRCNNHead"
    decoder = "heads.faster_rcnn:decode_proposals"
    losses = ("bce", "smooth_l1", "cross_entropy")
    paper = "1506.01497"

    head: Literal["faster_rcnn"]
    num_convs: NumConvs = Field(1, description="3x3 convolutions of the proposal network, before its outputs")
    norm: Norm = Field("none", description="normalization after each of these convolutions; gn: GroupNorm")
    scales_per_octave: SmallCount = Field(1, description="number of anchor sizes from one level to the next")
    positive_iou: PositiveShare = Field(
        0.7, description="an anchor is assigned the box that it overlaps most if their IoU is at least this"
    )
    negative_iou: Probability = Field(
        0.3,
        description="an anchor whose IoU with every box is below this is background; between the two thresholds it is "
        "ignored",
    )
    anchor_samples: Count = Field(256, description="anchors per image that train the proposal network, drawn at random")
    anchor_positive_share: PositiveShare = Field(0.5, description="maximum share of anchors with a box among these")
    candidates_per_level: Count = Field(
        1000, description="the best proposals of each level that are kept before overlapping ones are dropped"
    )
    proposal_nms_iou: Probability = Field(
        0.7, description="a proposal that overlaps a better one of its level by more than this IoU is dropped"
    )
    max_proposals: Count = Field(300, description="maximum number of proposals per image, in training and prediction")
    roi_levels: Levels = Field(
        ("p3", "p4", "p5", "p6"), description="pyramid levels that proposals are pooled from, finest first"
    )
    roi_cells: Positive = Field(
        7.0,
        description="a proposal is pooled from the coarsest level on which its side is at least this many cells long; "
        "the paper's rule, 224 pixels on p4, is 14",
    )
    roi_size: SmallCount = Field(7, description="height and width of a proposal's features, in bins")
    roi_aligned: bool = Field(
        True, description="sample the features at exact positions; false: half a cell off, as torchvision's detectors"
    )
    roi_channels: Width = Field(1024, description="width of the two linear layers on a proposal's features")
    roi_positive_iou: PositiveShare = Field(
        0.5, description="a proposal is assigned the box that it overlaps most if their IoU is at least this"
    )
    roi_negative_iou: Probability = Field(
        0.5,
        description="a proposal whose IoU with every box is below this is background; between the two thresholds it "
        "is ignored",
    )
    roi_samples: Count = Field(
        128, description="proposals per image that train the second stage, drawn at random; target boxes are added"
    )
    roi_positive_share: PositiveShare = Field(0.25, description="maximum share of proposals with a box among these")

    @model_validator(mode="after")
    def _roi_thresholds_are_ordered(self) -> "FasterRCNNHeadSpec":
        _require_order(self, "roi_negative_iou", "roi_positive_iou")
        return self


def _require_order(spec: HeadSpec, lower: str, upper: str) -> None:
    low, high = getattr(spec, lower), getattr(spec, upper)
    if low > high:
        raise ValueError(f"{lower}: got {low} with {upper}: {high}; choose at most {upper}")
