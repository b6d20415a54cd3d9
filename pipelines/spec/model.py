"""`model`: the backbone, the neck, the tasks, and how they learn."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from pipelines.spec.base import Count, Name, Positive, Probability, Spec

PyramidLevel = Literal["p3", "p4", "p5", "p6", "p7"]
Stage = Literal["c3", "c4", "c5"]


class BackboneSpec(Spec):
    """Which network, and the weights that it starts from."""

    name: str = Field(description="a name that `pyramidion backbones` lists; `timm:` or `tv:` picks the library")
    weights: str = Field("default", description="default (of the catalogue) | none | a file below a weights root")


class NeckSpec(Spec):
    """Feature pyramid: c3..c5 -> p3..p7."""

    name: Literal["fpn"] = "fpn"
    channels: Count = 256
    p6_from: Literal["p5", "c5"] = "p5"
    norm: Literal["none", "bn"] = "none"


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
    loss: Literal["proxy_anchor", "arcface", "supcon"] = "proxy_anchor"
    boxes_from: Name | None = Field(
        None, description="the detection task whose boxes are embedded; default: the only one"
    )
    gallery: Literal["self", "train"] = "self"


Task = Annotated[
    RetinaNetSpec | FCOSSpec | MulticlassSpec | MultilabelSpec | EmbeddingSpec, Field(discriminator="head")
]


Momentum = Annotated[float, Field(ge=0, lt=1)]


class OptimizerSpec(Spec):
    """AdamW, or SGD with Nesterov momentum. Biases and norms never decay."""

    name: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    momentum: Momentum = Field(0.9, description="of sgd")
    betas: tuple[Momentum, Momentum] = Field((0.9, 0.999), description="of adamw")


class ScheduleSpec(Spec):
    """Linear warm-up, then decay to `final_ratio` of the rate at the last step."""

    warmup_steps: Annotated[int, Field(ge=0)] = 0
    decay: Literal["cosine", "constant"] = "cosine"
    final_ratio: Probability = 0.01


class EMASpec(Spec):
    """Exponential moving average of the weights; after t steps the decay is min(decay, (1 + t) / (10 + t))."""

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.9998


class SelectSpec(Spec):
    """Which number picks the best checkpoint, and makes a champion."""

    metric: str
    mode: Literal["max", "min"] = "max"


class ModelSpec(Spec):
    """One backbone, one neck, any number of tasks."""

    backbone: BackboneSpec
    neck: NeckSpec = NeckSpec()
    tasks: dict[Name, Task] = Field(min_length=1)
    balance: Literal["fixed"] = "fixed"
    optimizer: OptimizerSpec = OptimizerSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    unfreeze: dict[int, Literal["none", "all"] | tuple[Stage, ...]] = Field({0: "all"})
    ema: EMASpec | None = None
    select: SelectSpec | None = Field(None, description="default: the first task's main metric on val")
    channels_last: bool = True

    @field_validator("unfreeze")
    @classmethod
    def _unfreeze_is_constant(cls, unfreeze: dict[int, str | tuple[str, ...]]) -> dict[int, str | tuple[str, ...]]:
        if list(unfreeze) != [0]:
            raise ValueError(
                f"got the epochs {sorted(unfreeze)}; one entry for epoch 0 is what can be had, such as {{0: all}}"
            )
        return unfreeze

    @model_validator(mode="after")
    def _boxes_come_from_a_detector(self) -> "ModelSpec":
        detectors = [name for name, task in sorted(self.tasks.items()) if isinstance(task, DetectionSpec)]
        for name, task in self.tasks.items():
            if not isinstance(task, EmbeddingSpec) or task.of == "image":
                continue
            if task.boxes_from is None and len(detectors) != 1:
                raise ValueError(f"tasks.{name}.boxes_from: name one of the detection tasks {detectors}")
            if task.boxes_from is not None and task.boxes_from not in detectors:
                raise ValueError(f"tasks.{name}.boxes_from: got {task.boxes_from!r}; choose one of {detectors}")
        return self

    def boxes_from(self, name: str) -> str | None:
        """Name of the detection task whose boxes task `name` embeds; None where it needs none."""
        task = self.tasks[name]
        if not isinstance(task, EmbeddingSpec) or task.of == "image":
            return None
        return task.boxes_from or next(n for n, t in self.tasks.items() if isinstance(t, DetectionSpec))

    @property
    def gallery_tasks(self) -> list[str]:
        """Embedding tasks whose queries are looked up in the training split."""
        return gallery_tasks(self.tasks)


def gallery_tasks(tasks: Mapping[str, Task]) -> list[str]:
    """Return the embedding tasks whose queries are looked up in the training split, sorted."""
    return sorted(n for n, task in tasks.items() if isinstance(task, EmbeddingSpec) and task.gallery == "train")
