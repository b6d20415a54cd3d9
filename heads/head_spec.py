"""The base of the settings of every head, and the types of their fields. Torch-free."""

from inspect import cleandoc
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

PyramidLevel = Literal["p3", "p4", "p5", "p6", "p7"]
Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=100_000)]
"""A number of boxes, anchors or samples: more of them than anyone needs would fill the memory."""
Width = Annotated[int, Field(ge=1, le=16_384)]
"""The length of a vector, or the channels of a layer."""
SmallCount = Annotated[int, Field(ge=1, le=64)]


class HeadSpec(BaseModel):
    """Settings of one head. Unknown keys are rejected, and instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    kind: ClassVar[str]
    """Name of the head's kind of task, such as `detection`."""
    implementation: ClassVar[str]
    """`module:name` of the class or function that builds the head from its settings, see `heads.create`."""
    decoder: ClassVar[str]
    """`module:name` of the function that makes predictions of `Head.graph_outputs`, see `heads.create`."""
    losses: ClassVar[tuple[str, ...]]
    """Names in `heads.loss_rows` of the losses that the head is, or can be, trained with."""
    paper: ClassVar[str | None] = None
    """arXiv id."""

    if TYPE_CHECKING:
        head: str

    @classmethod
    def summary(cls) -> str:
        """Return the first paragraph of the docstring as one line without a period."""
        return " ".join(cleandoc(cls.__doc__ or "").split("\n\n")[0].split()).removesuffix(".")
