"""Schema of `worst/<task>.json`: the images that cost most, and labels that may be wrong. Torch-free.

`GET /v1/jobs/{job_id}/results/{task}/worst` returns the same document.
"""

from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field


class WorstSchema(BaseModel):
    """Base of the parts of the document. Boxes are [x, y, width, height] in pixels of the original image."""

    model_config = ConfigDict(frozen=True)


class MissedLabel(WorstSchema):
    """A label that no detection above the threshold of its class finds at IoU 0.5."""

    annotation_id: int
    label: str
    bbox_xywh: list[float]


class FalsePositive(WorstSchema):
    """A detection above the threshold of its class without a label of the class at IoU 0.5."""

    label: str
    score: float
    bbox_xywh: list[float]


class WorstImage(WorstSchema):
    """One image with its errors."""

    image_id: int
    file_name: str
    cost: float = Field(description="AP of the split without this image, minus AP of the split")
    missed: list[MissedLabel]
    false_positives: list[FalsePositive]


class LabelSuspicion(WorstSchema):
    """A label that may be wrong or missing, for a person to review."""

    kind: Literal["unlabeled", "other_class", "not_found"] = Field(
        description="`unlabeled`: a confident detection where nothing is labeled; `other_class`: a confident detection "
        "of another class than that of the label; `not_found`: a label that no detection of any class and score finds"
    )
    image_id: int
    file_name: str
    label: str = Field(description="class of the detection; of the label, if it is `not_found`")
    bbox_xywh: list[float]
    score: float | None = Field(description="of the detection")
    annotation_id: int | None = Field(description="of the label")
    annotated_label: str | None = Field(description="class of the label")


class WorstImages(WorstSchema):
    """The worst images of a task, most expensive first, and suspicious labels, most suspicious first."""

    schema_version: int = 1
    kind: str
    iou: float
    thresholds: dict[str, float] = Field(description="score above which a detection of each class counts")
    num_images: int
    num_images_with_errors: int
    images: list[WorstImage] = Field(description="at most 100")
    num_suspicions: int
    suspicions: list[LabelSuspicion] = Field(description="at most 500")


class WorstFiles(NamedTuple):
    """What a kind finds: the document, and its suspicions as a COCO instances file."""

    worst: WorstImages
    suspicions: dict[str, Any]
