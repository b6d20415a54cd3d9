"""Embedding tasks in the document. Torch-free."""

from typing import Literal

from pydantic import Field

from heads.spec import EmbeddingHeadSpec
from pipelines.base.names import TaskName
from pipelines.tasks.base import TaskSpec, add_head_settings


class EmbeddingSpec(EmbeddingHeadSpec, TaskSpec):
    """Vectors of images or of objects that are close where identities are equal."""

    identity: str = Field("identity", description="the annotation's field that names an object's identity")
    boxes_from: TaskName | None = Field(
        None, description="the detection task whose boxes are embedded; default: the only one"
    )
    gallery: Literal["self", "train"] = Field(
        "self", description="where queries are looked up: in their own split, or in the training split"
    )


EMBEDDING_SPECS = add_head_settings(EmbeddingSpec)
