"""Classification tasks in the document. Torch-free."""

from typing import Literal

from pydantic import Field

from heads.head_spec import Positive
from heads.spec import ClassificationHeadSpec
from pipelines.tasks.base import TaskSpec, add_head_settings


class ClassificationSpec(ClassificationHeadSpec, TaskSpec):
    """Settings of every classification task."""

    class_weights: Literal["none", "balanced"] | dict[str, Positive] = Field(
        "none", description="none | balanced (from the training labels) | {class: weight}"
    )


CLASSIFICATION_SPECS = add_head_settings(ClassificationSpec)
