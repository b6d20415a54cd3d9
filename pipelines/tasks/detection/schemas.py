"""Results and predictions of detection tasks as JSON. Torch-free."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from backbones.spec.section import Section
from pipelines.tasks.base import Calibration, ClassAtBestThreshold, Share, TaskAnswer, TaskResult, Total


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


CURVE_SCORES = tuple(round(0.05 * step, 2) for step in range(20))
"""The scores 0, 0.05 .. 0.95; detections are accepted if their scores are above."""

BACKGROUND = "background"
"""Label of the last row and column of the confusion matrix."""


class ScoreCurves(Section):
    """Numbers of the detections with scores above 0, 0.05 .. 0.95, at IoU 0.5; precision is null without any."""

    precision: tuple[Share | None, ...]
    recall: tuple[Share | None, ...]
    f1: tuple[Share | None, ...]


class VocNumbers(Section):
    """Mean AP50 of PASCAL VOC over the classes."""

    AP50: Share | None = Field(description="area below the curve (VOC 2010 and later)")
    AP50_2007: Share | None = Field(description="mean precision at 11 points (VOC 2007)")


class DetectionConfusion(Section):
    """Confusion matrix, for which each detection takes the box of any class that has the highest IoU."""

    iou: Share = Field(description="IoU from which a detection takes a box")
    scores: tuple[Share, ...] = Field(description="score above which detections of each class are counted")
    counts: tuple[tuple[Total, ...], ...] = Field(
        description="row truth, column prediction, in the order of per_class; the last row and column are background"
    )


class ErrorCosts(Section):
    """AP50 that would be gained if all errors of one kind were corrected (Bolya et al. 2020, arXiv 2008.08115)."""

    classification: float = Field(description="right place, wrong class")
    localization: float = Field(description="right class, IoU too low")
    classification_and_localization: float = Field(description="wrong class, and IoU too low")
    duplicate: float = Field(description="a better detection of the same object exists")
    background: float = Field(description="nothing is there")
    missed: float = Field(description="objects that no detection comes near")
    all_false_positives: float = Field(description="every detection that is wrong, of any kind")


class ErrorCounts(Section):
    """Number of errors by kind, see `ErrorCosts`."""

    classification: Total
    localization: Total
    classification_and_localization: Total
    duplicate: Total
    background: Total
    missed: Total


class ErrorBreakdown(Section):
    """Errors by kind. The costs do not add up: correcting one kind changes the cost of the others."""

    iou: Share = Field(description="IoU from which a detection is right")
    background_iou: Share = Field(description="IoU up to which a detection shows background")
    AP50: Share = Field(description="AP50 with all errors")
    cost: ErrorCosts
    count: ErrorCounts


class DetectionClass(ClassAtBestThreshold):
    """One class of a detection task; `num_boxes` counts ground truth that is not crowd, and numbers at the best
    threshold are those of detections at IoU 0.5. Results of earlier versions lack the fields that have a default."""

    category_id: int
    label: str
    num_boxes: Annotated[int, Field(ge=0)]
    AP: Share | None
    AP50: Share | None
    precision_at_recall: tuple[Share, ...] | None = Field(
        description="interpolated precision at IoU 0.5 for recall 0, 0.05 .. 1"
    )
    APs: Share | None = Field(None, description="AP of boxes with areas below 32 x 32 pixels")
    APm: Share | None = Field(None, description="AP of boxes with areas up to 96 x 96 pixels")
    APl: Share | None = Field(None, description="AP of larger boxes")
    VOC_AP50: Share | None = Field(None, description="as `AP50` of `VocNumbers`")
    VOC2007_AP50: Share | None = Field(None, description="as `AP50_2007` of `VocNumbers`")
    ece: Share | None = Field(None, description="expected calibration error of the scores of this class, at IoU 0.5")
    at_score: ScoreCurves | None = None


class DetectionResult(TaskResult):
    """Scores of a detection task over the images that are labeled for it. Results of earlier versions lack the fields
    that have a default, and so do results without any box in the ground truth."""

    kind: Literal["detection"]
    coco: CocoNumbers
    per_class: tuple[DetectionClass, ...]
    voc: VocNumbers | None = None
    at_score: ScoreCurves | None = Field(None, description="all classes together")
    confusion: DetectionConfusion | None = Field(None, description="null for more than 100 classes")
    errors: ErrorBreakdown | None = None
    calibration: Calibration | None = Field(None, description="of the scores of all detections, at IoU 0.5")


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
