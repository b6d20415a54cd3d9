"""RandAugment: several random operations of one strength."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipelines.spec.operations.base import OperationSpec


class RandAugmentSpec(OperationSpec):
    """Apply `num_ops` random changes of geometry and color of one strength (Cubuk et al. 2020, arXiv 1909.13719)."""

    IMPLEMENTATION: ClassVar[str] = "pipelines.data.loading.operations.rand_augment:apply_random_changes"

    op: Literal["rand_augment"] = "rand_augment"
    num_ops: Annotated[int, Field(ge=1, le=10)] = Field(2, description="number of changes of each image")
    magnitude: Annotated[float, Field(ge=0, le=10)] = Field(5.0, description="strength of the changes, 0 to 10")
    boxes: Literal["corners", "ellipse"] = Field(
        "corners",
        description="what a moved box encloses: the corners of the moved box, or the ellipse inside it (round objects)",
    )
