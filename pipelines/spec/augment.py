"""`data.augment`: random changes of training images, as a list of operations or as a mapping of the usual four.

An operation is a subclass of `OperationSpec` in `pipelines.spec.operations` and a row in `OPERATIONS`. Its
implementation needs torch; the class names it, and the loader of the training data imports it.
"""

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator, Field, Tag

from pipelines.spec.base import Probability, Spec
from pipelines.spec.operations.base import OperationSpec
from pipelines.spec.operations.color import PhotometricSpec
from pipelines.spec.operations.combining import CopyPasteSpec, CutmixSpec, MixupSpec, MosaicSpec
from pipelines.spec.operations.geometry import HorizontalFlipSpec, ScaleJitterSpec, VerticalFlipSpec, ZoomRange

OPERATIONS: tuple[type[OperationSpec], ...] = (
    HorizontalFlipSpec,
    VerticalFlipSpec,
    ScaleJitterSpec,
    PhotometricSpec,
    MosaicSpec,
    MixupSpec,
    CutmixSpec,
    CopyPasteSpec,
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
