"""`model.tasks`: a head with its settings, and how the task is trained with it.

Settings of heads are in `heads.spec`; the classes here add the fields of a task that its head does not need.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union, cast

from pydantic import Field, create_model

from heads.spec import (
    HEAD_SPECS,
    ClassificationHeadSpec,
    DetectionHeadSpec,
    EmbeddingHeadSpec,
    HeadSpec,
    Positive,
    TaskKind,
)
from pipelines.spec.base import Spec, TaskName


class TaskSpec(HeadSpec, Spec):
    """Settings of every task."""

    weight: Annotated[float, Field(ge=0)] = Field(1.0, description="factor of the task's loss")


class DetectionSpec(DetectionHeadSpec, TaskSpec):
    """Settings of every detection task."""


class ClassificationSpec(ClassificationHeadSpec, TaskSpec):
    """Settings of every classification task."""

    class_weights: Literal["none", "balanced"] | dict[str, Positive] = Field(
        "none", description="none | balanced (from the training labels) | {class: weight}"
    )


class EmbeddingSpec(EmbeddingHeadSpec, TaskSpec):
    """Vectors of images or of objects that are close where identities are equal."""

    identity: str = Field("identity", description="the annotation's field that names an object's identity")
    boxes_from: TaskName | None = Field(
        None, description="the detection task whose boxes are embedded; default: the only one"
    )
    gallery: Literal["self", "train"] = Field(
        "self", description="where queries are looked up: in their own split, or in the training split"
    )


KIND_SPECS: dict[TaskKind, type[TaskSpec]] = {
    "detection": DetectionSpec,
    "classification": ClassificationSpec,
    "embedding": EmbeddingSpec,
}


def _task_spec(head: type[HeadSpec]) -> type[TaskSpec]:
    """Return the class of tasks with this head: the fields of the head and those of its kind of task."""
    kind = KIND_SPECS[head.kind]
    if issubclass(kind, head):
        return kind
    name = head.__name__.replace("HeadSpec", "Spec")
    bases: Any = (head, kind)
    return cast("type[TaskSpec]", create_model(name, __base__=bases, __module__=__name__, __doc__=head.__doc__))


TASK_SPECS: dict[str, type[TaskSpec]] = {name: _task_spec(head) for name, head in HEAD_SPECS.items()}
"""The class of a task by the name of its head."""

# Pickle looks classes up by their name in the module.
globals().update({spec.__name__: spec for spec in TASK_SPECS.values()})

if TYPE_CHECKING:
    Task: TypeAlias = TaskSpec
else:
    Task = Annotated[Union[tuple(TASK_SPECS.values())], Field(discriminator="head")]  # noqa: UP007


def gallery_tasks(tasks: Mapping[str, Task]) -> list[str]:
    """Return the embedding tasks whose queries are looked up in the training split, sorted."""
    return sorted(n for n, task in tasks.items() if isinstance(task, EmbeddingSpec) and task.gallery == "train")
