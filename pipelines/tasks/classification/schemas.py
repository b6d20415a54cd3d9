"""Results and predictions of classification tasks as JSON. Torch-free."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pipelines.tasks.base import Calibration, ClassAtBestThreshold, Share, TaskAnswer, TaskResult, Total


class ClassificationClass(ClassAtBestThreshold):
    """One class of a classification task; `top1_*` count only the images that have exactly one class. `recall`,
    `precision` and `f1` are those of scores above 0.5 (multilabel) or of the highest scores; only classes of a
    multilabel task have a best threshold. Classes of tasks with more than 100 classes have no curves. Results of
    earlier versions lack the fields that have a default."""

    category_id: int
    label: str
    support: Total
    recall: Share | None
    precision: Share | None
    f1: Share | None
    ap: Share | None
    top1_support: Total
    top1_recall: Share | None
    ece: Share | None = Field(None, description="expected calibration error of the scores of this class")
    roc_auc: Share | None = Field(None, description="area under the ROC curve of this class against all others")
    precision_at_recall: tuple[Share, ...] | None = Field(
        None, description="interpolated precision for recall 0, 0.05 .. 1"
    )
    recall_at_fpr: tuple[Share, ...] | None = Field(
        None, description="ROC curve: recall at a false-positive rate of at most 0, 0.05 .. 1"
    )
    confusion: tuple[tuple[Total, Total], tuple[Total, Total]] | None = Field(
        None, description="multilabel: row truth (absent, present), column score above 0.5 (no, yes)"
    )


class ClassificationResult(TaskResult):
    """Scores of a classification task over the images that are labeled for it."""

    kind: Literal["classification"]
    accuracy: Share | None = Field(description="null for multilabel")
    balanced_accuracy: Share | None = Field(
        description="mean recall of the classes; multilabel: mean over the classes of (recall + specificity) / 2"
    )
    macro_f1: Share | None = Field(description="multilabel: scores above 0.5 are positive")
    mAP: Share | None  # noqa: N815 - the name that users know
    top1_macro_recall: Share | None = Field(description="images with exactly one class, the highest score counts")
    per_class: tuple[ClassificationClass, ...]
    confusion_matrix: tuple[tuple[Total, ...], ...] | None = Field(
        description="multiclass of up to 100 classes: row truth, column prediction, in the order of per_class"
    )
    calibration: Calibration | None = Field(
        None,
        description="of the highest score of each image; multilabel: of the scores of all classes; null in results of "
        "earlier versions",
    )


class LabelView(BaseModel):
    """A class of an image."""

    model_config = ConfigDict(frozen=True)

    label: str
    score: float


class ClassificationAnswer(TaskAnswer):
    """Scores of all classes for one image."""

    labels: list[LabelView] = Field(description="classes of a classification task, highest score first")
