"""`data.augment`: random changes of training images, as a list of operations or as a mapping of the usual four.

An operation is a subclass of `OperationSpec` and a row in `OPERATIONS`. Its implementation needs torch; the class names
it, and the loader of the training data imports it.
"""

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from pipelines.spec.base import Probability, Spec


def _require_zoom_range(zoom: tuple[float, float]) -> tuple[float, float]:
    if not 0.1 <= zoom[0] <= zoom[1] <= 10:
        raise ValueError(f"got {list(zoom)}; write [low, high] with 0.1 <= low <= high <= 10")
    return zoom


ZoomRange = Annotated[tuple[float, float], AfterValidator(_require_zoom_range)]


class OperationSpec(Spec):
    """One operation of `data.augment`."""

    IMPLEMENTATION: ClassVar[str]
    """`module:function` of the function that applies the operation, see `pipelines.data.loading.operations`."""

    op: str


class HorizontalFlipSpec(OperationSpec):
    """Swap left and right."""

    IMPLEMENTATION: ClassVar[str] = "pipelines.data.loading.operations:flip_horizontally"

    op: Literal["hflip"] = "hflip"
    p: Probability = 0.5


class VerticalFlipSpec(OperationSpec):
    """Swap top and bottom."""

    IMPLEMENTATION: ClassVar[str] = "pipelines.data.loading.operations:flip_vertically"

    op: Literal["vflip"] = "vflip"
    p: Probability = 0.5


class ScaleJitterSpec(OperationSpec):
    """Zoom by a random factor, then crop or pad to the size that evaluation gives the image."""

    IMPLEMENTATION: ClassVar[str] = "pipelines.data.loading.operations:jitter_scale"

    op: Literal["scale_jitter"] = "scale_jitter"
    range: ZoomRange | None = Field(None, description="range of the zoom, such as [0.5, 2.0]; null: no zoom")


class PhotometricSpec(OperationSpec):
    """Change brightness, contrast, saturation and color cast, each with probability `p`."""

    IMPLEMENTATION: ClassVar[str] = "pipelines.data.loading.operations:change_color"

    op: Literal["photometric"] = "photometric"
    p: Probability = 0.5


OPERATIONS: tuple[type[OperationSpec], ...] = (
    HorizontalFlipSpec,
    VerticalFlipSpec,
    ScaleJitterSpec,
    PhotometricSpec,
)
"""All operations that a document can list."""

if TYPE_CHECKING:
    Operation = OperationSpec
else:
    Operation = Annotated[reduce(or_, OPERATIONS), Field(discriminator="op")]
"""An operation of the document, chosen by its `op`."""


class AugmentSpec(Spec):
    """Random changes of training images: the usual operations, each at most once."""

    hflip: Probability = 0.5
    vflip: Probability = 0.0
    scale_jitter: ZoomRange | None = Field(None, description="range of the zoom, such as [0.5, 2.0]")
    photometric: Probability = 0.0

    def operations(self) -> tuple[OperationSpec, ...]:
        """Return the list of operations with the same effect.

        Operations that never change anything are included, because they draw random numbers too.
        """
        return (
            ScaleJitterSpec(range=self.scale_jitter),
            HorizontalFlipSpec(p=self.hflip),
            VerticalFlipSpec(p=self.vflip),
            PhotometricSpec(p=self.photometric),
        )


def _form(augment: Any) -> str:
    return "list" if isinstance(augment, list | tuple) else "mapping"


Augment = Annotated[
    Annotated[AugmentSpec, Tag("mapping")] | Annotated[tuple[Operation, ...], Tag("list")], Discriminator(_form)
]


def operations_of(augment: Augment) -> tuple[OperationSpec, ...]:
    """Return the operations of either form of `data.augment`, in the order in which they draw random numbers."""
    return augment.operations() if isinstance(augment, AugmentSpec) else augment
