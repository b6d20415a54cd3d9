"""Schemas of the analyses of one task, which `GET /v1/jobs/{id}/results/{task}/...` returns.

Their numbers are those of result.json. Undefined numbers are null.
"""

from pydantic import Field

from pipelines.base.records import Split
from pipelines.spec.base import Spec
from pipelines.spec.result import AnyTaskResult
from pipelines.tasks.base import Calibration, Share, Total
from pipelines.tasks.detection.schemas import ErrorBreakdown, ScoreCurves


class TaskAnalysis(Spec):
    """Base of the analyses: what was analyzed."""

    task: str
    kind: str
    split: Split


class TaskScores(TaskAnalysis):
    """The entry of one task in result.json."""

    result: AnyTaskResult


class ClassCurves(Spec):
    """Curves of one class."""

    label: str
    precision_at_recall: tuple[Share, ...] | None = Field(
        description="interpolated precision for recall 0, 0.05 .. 1; of detections at IoU 0.5"
    )
    at_score: ScoreCurves | None = Field(None, description="detection: numbers of the detections above `scores`")
    recall_at_fpr: tuple[Share, ...] | None = Field(
        None, description="classification: recall at a false-positive rate of at most 0, 0.05 .. 1"
    )


class CurvesAnalysis(TaskAnalysis):
    """Curves of each class, and those of all classes together."""

    scores: tuple[float, ...] | None = Field(None, description="the scores of `at_score`")
    at_score: ScoreCurves | None = Field(None, description="detection: all classes together")
    per_class: tuple[ClassCurves, ...]


class ClassOutcomes(Spec):
    """Images with and without one class of a multilabel task."""

    label: str
    counts: tuple[tuple[Total, Total], tuple[Total, Total]] = Field(
        description="row truth (absent, present), column score above 0.5 (no, yes)"
    )


class ConfusionAnalysis(TaskAnalysis):
    """Confusion matrix: how often each true class is predicted as each class."""

    labels: tuple[str, ...] = Field(description="of rows and columns; the last one of a detection task is background")
    counts: tuple[tuple[Total, ...], ...] | None = Field(
        None, description="row truth, column prediction; null for multilabel tasks"
    )
    iou: Share | None = Field(None, description="detection: IoU from which a detection takes a box")
    scores: tuple[float, ...] | None = Field(None, description="detection: detections above them are counted, by class")
    per_class: tuple[ClassOutcomes, ...] = Field((), description="multilabel: each class against all others")


class ErrorsAnalysis(TaskAnalysis):
    """AP50 that each kind of error of a detection task costs."""

    errors: ErrorBreakdown


class ClassCalibration(Spec):
    """Calibration of one class."""

    label: str
    ece: Share | None = Field(description="expected calibration error")


class CalibrationAnalysis(TaskAnalysis):
    """Share of right predictions by score, and the expected calibration error."""

    calibration: Calibration
    per_class: tuple[ClassCalibration, ...]
