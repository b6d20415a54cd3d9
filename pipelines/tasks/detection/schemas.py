"""Results and predictions of detection tasks as JSON. Torch-free."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from backbones.spec.section import Section
from pipelines.tasks.base import ClassAtBestThreshold, Share, TaskAnswer, TaskResult


class CocoNumbers(Section):
    """COCO's twelve: AP over IoU 0.50:0.95, at 0.50 and 0.75, by area; AR by detections per image, and by area."""

    AP: Share | None
    AP50: Share | None
    AP75: Share | None
    APs: Share | None
    APm: Share | None
    APl: Share | None
    AR1: Share | None
    AR10: Share | None
    AR100: Share | None
    ARs: Share | None
    ARm: Share | None
    ARl: Share | None


COCO_NUMBERS = tuple(CocoNumbers.model_fields)
"""Names of the twelve, in COCO's order."""


class DetectionClass(ClassAtBestThreshold):
    """One class of a detection task; `num_boxes` counts ground truth that is not crowd, and numbers at the best
    threshold are those of detections at IoU 0.5."""

    category_id: int
    label: str
    num_boxes: Annotated[int, Field(ge=0)]
    AP: Share | None
    AP50: Share | None
    precision_at_recall: tuple[Share, ...] | None = Field(
        description="interpolated precision at IoU 0.5 for recall 0, 0.05 .. 1"
    )


class DetectionResult(TaskResult):
    """Scores of a detection task over the images that are labeled for it."""

    kind: Literal["detection"]
    coco: CocoNumbers
    per_class: tuple[DetectionClass, ...]


class DetectionView(BaseModel):
    """A detected object."""

    model_config = ConfigDict(frozen=True)

    category_id: int
    label: str
    score: float
    bbox_xywh: list[float] = Field(description="x, y, width and height in pixels of the original image")


class DetectionAnswer(TaskAnswer):
    """Objects found in one image."""

    detections: list[DetectionView] = Field(description="objects of a detection task, highest score first")
