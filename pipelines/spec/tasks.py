"""`model.tasks`: the heads, and what each is trained with."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipelines.names import TaskName
from pipelines.spec.base import Count, Positive, Probability, Spec

PyramidLevel = Literal["p3", "p4", "p5", "p6", "p7"]


class TaskSpec(Spec):
    """What every task has."""

    weight: Annotated[float, Field(ge=0)] = 1.0


class DetectionSpec(TaskSpec):
    """What every dense detector has. Sizes are in pixels of the network's input."""

    levels: tuple[PyramidLevel, ...] = ("p3", "p4", "p5", "p6", "p7")
    num_convs: Annotated[int, Field(ge=0, le=8)] = 4
    norm: Literal["none", "gn"] = "none"
    score_threshold: Probability = 0.05
    nms_iou: Probability = 0.5
    candidates_per_level: Count = 1000
    max_detections: Count = 100

    @field_validator("levels")
    @classmethod
    def _levels_ascend_and_are_unique(cls, levels: tuple[str, ...]) -> tuple[str, ...]:
        if not levels or list(levels) != sorted(set(levels)):
            raise ValueError("name each level once, finest first, such as [p3, p4, p5]")
        return levels


class RetinaNetSpec(DetectionSpec):
    """RetinaNet (Lin et al. 2017, arXiv 1708.02002)."""

    head: Literal["retinanet"]
    box_loss: Literal["smooth_l1", "giou"] = "smooth_l1"
    anchor_scale: Positive = Field(4.0, description="side of the smallest anchor of a level, in strides")
    scales_per_octave: Count = 3
    aspect_ratios: tuple[Positive, ...] = (0.5, 1.0, 2.0)


class FCOSSpec(DetectionSpec):
    """FCOS (Tian et al. 2019, arXiv 1904.01355)."""

    head: Literal["fcos"]
    norm: Literal["none", "gn"] = "gn"
    box_loss: Literal["giou"] = "giou"
    center_sampling_radius: Positive = 1.5
    range_scale: Positive = Field(8.0, description="a level takes boxes up to this many strides; 8 is the paper's")


class ClassificationSpec(TaskSpec):
    """What both classification heads have: pooled features, a linear layer."""

    level: Literal["c3", "c4", "c5", "p3", "p4", "p5"] = "c5"
    pool: Literal["avg", "max", "avgmax"] = "avg"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["none", "balanced"] | dict[str, Positive] = Field(
        "none", description="none | balanced (from the training labels) | {class: weight}"
    )


class MulticlassSpec(ClassificationSpec):
    """Exactly one class an image."""

    head: Literal["multiclass"]


class MultilabelSpec(ClassificationSpec):
    """Any number of classes an image."""

    head: Literal["multilabel"]


class EmbeddingSpec(TaskSpec):
    """Vectors that are close where identities are equal."""

    head: Literal["embedding"]
    of: Literal["image", "objects"] = "image"
    identity: str = Field("identity", description="the annotation's field that names an object's identity")
    dim: Count = 128
    loss: Literal["proxy_anchor", "arcface", "cosface", "supcon", "ntxent", "triplet"] = "proxy_anchor"
    miner: Literal["all", "hard", "semihard"] = Field("semihard", description="which triplets count, of loss: triplet")
    boxes_from: TaskName | None = Field(
        None, description="the detection task whose boxes are embedded; default: the only one"
    )
    gallery: Literal["self", "train"] = "self"


Task = Annotated[
    RetinaNetSpec | FCOSSpec | MulticlassSpec | MultilabelSpec | EmbeddingSpec, Field(discriminator="head")
]


def gallery_tasks(tasks: Mapping[str, Task]) -> list[str]:
    """Return the embedding tasks whose queries are looked up in the training split, sorted."""
    return sorted(n for n, task in tasks.items() if isinstance(task, EmbeddingSpec) and task.gallery == "train")
