"""`model`: the backbone, the neck, the tasks, and the settings of learning."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from backbones.spec.design import DesignSpec
from backbones.spec.section import Stage
from backbones.spec.surgery import SurgerySpec
from pipelines.base.names import TaskName
from pipelines.spec.base import CountOrZero, Spec
from pipelines.spec.learning import (
    EMASpec,
    OptimizerSpec,
    RateScaleSpec,
    ScheduleSpec,
    SelectSpec,
    Transfer,
    Unfreeze,
)
from pipelines.spec.tasks import Task, gallery_tasks
from pipelines.tasks.kinds import kind_of


class BackboneSpec(Spec):
    """The network, its initial weights, and changes to its layers."""

    name: str | None = Field(
        None, description="a name from `pyramidion backbones`; a prefix `timm:` or `tv:` selects the library"
    )
    design: DesignSpec | None = Field(None, description="a network of the design space, instead of a name")
    weights: str = Field(
        "default",
        description="default (from the catalog) | none | a file below a weights root; a design has no default weights",
    )
    accept_license: bool = Field(False, description="use default weights whatever their license requires")
    surgery: SurgerySpec = SurgerySpec()

    @model_validator(mode="before")
    @classmethod
    def _a_design_starts_at_random(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("design") is not None:
            return {"weights": "none", **given}
        return given

    @model_validator(mode="after")
    def _one_network_is_described(self) -> "BackboneSpec":
        if (self.name is None) == (self.design is None):
            raise ValueError(
                "got neither a name nor a design; give one of them"
                if self.name is None
                else f"got the name {self.name!r} and a design; give one of them, and null for the other"
            )
        if self.design is not None and self.weights == "default":
            raise ValueError("weights: got 'default', but a design has no default weights; write none, or a file")
        return self

    @property
    def network(self) -> str | DesignSpec:
        """The name, or the design."""
        network = self.name or self.design
        assert network is not None, "validated above"
        return network

    @property
    def label(self) -> str:
        """Name of the network in reports."""
        return self.network if isinstance(self.network, str) else self.network.label


class NeckSpec(Spec):
    """Feature pyramid: c3..c5 -> p3..p7."""

    name: Literal["fpn"] = "fpn"
    channels: Annotated[int, Field(ge=1, le=4096)] = 256
    p6_from: Literal["p5", "c5"] = "p5"
    norm: Literal["none", "bn"] = "none"


class ModelSpec(Spec):
    """One backbone, one neck, and any number of tasks.

    `layer_decay` and `unfreeze` get their defaults from `transfer` when the document is validated.
    """

    backbone: BackboneSpec
    init_from: str | None = Field(
        None,
        description="model to start from: a run folder, a checkpoint or the file of a torchvision detector below a "
        "weights root, models:/NAME@ALIAS, tv:retinanet_resnet50_fpn or tv:fcos_resnet50_fpn",
    )
    neck: NeckSpec = NeckSpec()
    tasks: dict[TaskName, Task] = Field(min_length=1)
    transfer: Transfer = Field("full", description="strategy that sets layer_decay and unfreeze if they are not given")
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="learning rate = lr * layer_decay ** distance from the heads; the default depends on `transfer`",
    )
    layer_decay_by: Literal["stage", "layer"] = Field("stage", description="unit of the distance")
    lr_scale: RateScaleSpec = RateScaleSpec()
    unfreeze: Unfreeze | None = Field(
        None,
        description="epoch -> the backbone stages that train from that epoch on; the default depends on `transfer`",
    )
    unfreeze_order: Literal["top-down", "bottom-up"] | tuple[Stage, ...] = Field(
        "top-down", description="order of stages for transfer: gradual"
    )
    balance: Literal["fixed", "uncertainty"] = "fixed"
    aggregate: Literal["none", "pcgrad", "upgrad", "mgda"] = Field(
        "none", description="how the tasks' gradients of shared layers are combined; none: they are added"
    )
    gradients_every_n_steps: CountOrZero = Field(
        100, description="interval of logging norms and cosines of the tasks' gradients; 0: never"
    )
    optimizer: OptimizerSpec = OptimizerSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    ema: EMASpec | None = None
    select: SelectSpec | None = Field(
        None, description="metric that selects the best checkpoint; default: the main metric of the first task on val"
    )
    channels_last: bool = True

    @model_validator(mode="after")
    def _boxes_come_from_a_task_that_gives_them(self) -> "ModelSpec":
        sources = sorted(self._box_sources())
        for name, task in self.tasks.items():
            kind = kind_of(task)
            if not kind.takes_boxes(task):
                continue
            named = kind.box_source(task)
            if named is None and len(sources) != 1:
                raise ValueError(f"tasks.{name}.boxes_from: name one of the detection tasks {sources}")
            if named is not None and named not in sources:
                raise ValueError(f"tasks.{name}.boxes_from: got {named!r}; choose one of {sources}")
        return self

    def _box_sources(self) -> list[str]:
        return [name for name, task in self.tasks.items() if kind_of(task).gives_boxes]

    @model_validator(mode="after")
    def _a_task_has_weight(self) -> "ModelSpec":
        if all(task.weight == 0 for task in self.tasks.values()):
            name = min(self.tasks)
            others = ", and so do all other tasks" if len(self.tasks) > 1 else ", and there is no other task"
            raise ValueError(
                f"tasks.{name}.weight: got 0{others}: nothing would be learned; write a number above 0, such as 1"
            )
        return self

    @model_validator(mode="after")
    def _parts_fit_each_other(self) -> "ModelSpec":
        if unknown := sorted(set(self.lr_scale.tasks) - set(self.tasks)):
            raise ValueError(f"lr_scale.tasks: got {unknown}; the tasks are {sorted(self.tasks)}")
        if isinstance(self.unfreeze_order, tuple) and sorted(self.unfreeze_order) != ["c3", "c4", "c5"]:
            raise ValueError(f"unfreeze_order: got {list(self.unfreeze_order)}; list each of c3, c4 and c5 once")
        if self.aggregate != "none" and self.balance != "fixed":
            raise ValueError(
                f"aggregate: got {self.aggregate!r} with balance: {self.balance}; both weight the tasks, choose one"
            )
        return self

    def boxes_from(self, name: str) -> str | None:
        """Return the task whose boxes task `name` takes; None if it takes none."""
        kind = kind_of(self.tasks[name])
        if not kind.takes_boxes(self.tasks[name]):
            return None
        return kind.box_source(self.tasks[name]) or self._box_sources()[0]

    @property
    def gallery_tasks(self) -> list[str]:
        """The tasks that search the training split when they are scored."""
        return gallery_tasks(self.tasks)
