"""result.json: what a run has come to. The same document is answered by `GET /v1/jobs/{id}/results`.

What is undefined, such as the AP of a class without ground truth, is null.
"""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from pipelines.records import Split
from pipelines.spec.base import Probability, Spec

Kind = Literal["detection", "classification", "embedding"]
Number = Probability | None
Total = Annotated[int, Field(ge=0)]


class CocoNumbers(Spec):
    """COCO's twelve: AP over IoU 0.50:0.95, at 0.50 and 0.75, by area; AR by detections an image, and by area."""

    AP: Number
    AP50: Number
    AP75: Number
    APs: Number
    APm: Number
    APl: Number
    AR1: Number
    AR10: Number
    AR100: Number
    ARs: Number
    ARm: Number
    ARl: Number


class DetectionClass(Spec):
    """One class of a detection task; `num_boxes` counts ground truth that is not crowd."""

    category_id: int
    label: str
    num_boxes: Total
    AP: Number
    AP50: Number
    precision_at_recall: tuple[Probability, ...] | None = Field(
        description="interpolated precision at IoU 0.5 for recall 0, 0.05 .. 1"
    )


class DetectionResult(Spec):
    """Scores of a detection task over the images that are labeled for it."""

    kind: Literal["detection"]
    num_images: Total
    coco: CocoNumbers
    per_class: tuple[DetectionClass, ...]


class ClassificationClass(Spec):
    """One class of a classification task; `top1_*` are over the images that have exactly one class."""

    category_id: int
    label: str
    support: Total
    recall: Number
    precision: Number
    f1: Number
    ap: Number
    top1_support: Total
    top1_recall: Number


class ClassificationResult(Spec):
    """Scores of a classification task over the images that are labeled for it."""

    kind: Literal["classification"]
    num_images: Total
    accuracy: Number = Field(description="null for multilabel")
    balanced_accuracy: Number = Field(
        description="mean recall of the classes; multilabel: mean over the classes of (recall + specificity) / 2"
    )
    macro_f1: Number = Field(description="multilabel: scores above 0.5 are positive")
    mAP: Number  # noqa: N815 - the name that users know
    top1_macro_recall: Number = Field(description="images with exactly one class, the highest score counts")
    per_class: tuple[ClassificationClass, ...]
    confusion_matrix: tuple[tuple[Total, ...], ...] | None = Field(
        description="multiclass of up to 100 classes: row truth, column prediction, in the order of per_class"
    )


class IdentityScore(Spec):
    """One identity of an embedding task; `support` counts its queries."""

    identity: str
    support: Total
    recall_at_1: Probability


class EmbeddingResult(Spec):
    """Scores of retrieval by cosine similarity. Results of earlier runs lack the fields that may be absent."""

    kind: Literal["embedding"]
    num_images: Total
    gallery: Literal["self", "train"]
    num_gallery: Total
    num_queries: Total
    num_left_out: Total = Field(description="queries whose identity has no other item in the gallery")
    recall_at_1: Number
    recall_at_5: Number = None
    recall_at_10: Number = None
    r_precision: Number = Field(
        None, description="share of a query's identity among its nearest R, the number of them there are"
    )
    map_at_r: Number
    macro_recall_at_1: Number = Field(description="mean over identities with at least `macro_min_queries` queries")
    nmi: Number = Field(None, description="normalized mutual information of identities and k-means clusters")
    macro_min_queries: Total
    per_class: tuple[IdentityScore, ...]


TaskResult = Annotated[DetectionResult | ClassificationResult | EmbeddingResult, Field(discriminator="kind")]


class SplitResult(Spec):
    """All tasks on one split; the keys of `summary` are `<split>/<task>/<metric>`."""

    summary: dict[str, float | None]
    tasks: dict[str, TaskResult]


class Selected(Spec):
    """What the best checkpoint was chosen by; `value` is the best checkpoint's number on val."""

    metric: str
    mode: Literal["max", "min"]
    value: float | None


class RunResult(SplitResult):
    """The whole result; `summary` and `tasks` are of `split`, which is test where there is one."""

    schema_version: Literal[1] = 1
    split: Split
    select: Selected
    val: SplitResult | None = Field(description="null where val was not scored")
    model: dict[str, JsonValue]
    timing: dict[str, float]
    versions: dict[str, str]
