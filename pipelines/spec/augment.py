"""`data.augment`: random changes of training images, as a preset, a list of operations, or a mapping of the usual four.

An operation is a subclass of `OperationSpec` in `pipelines.spec.operations` and a row in `OPERATIONS`. Its
implementation needs torch; the class names it, and the loader of the training data imports it.
"""

from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from pipelines.spec.augment_presets import PRESETS, PresetName
from pipelines.spec.base import Probability, Spec
from pipelines.spec.operations.base import OperationSpec
from pipelines.spec.operations.color import GrayscaleSpec, PhotometricSpec
from pipelines.spec.operations.combining import CopyPasteSpec, CutmixSpec, MixupSpec, MosaicSpec
from pipelines.spec.operations.erasing import RandomErasingSpec
from pipelines.spec.operations.geometry import (
    AffineSpec,
    HorizontalFlipSpec,
    ScaleJitterSpec,
    VerticalFlipSpec,
    ZoomRange,
)
from pipelines.spec.operations.quality import BlurSpec, JpegSpec
from pipelines.spec.operations.rand_augment import RandAugmentSpec

OPERATIONS: tuple[type[OperationSpec], ...] = (
    HorizontalFlipSpec,
    VerticalFlipSpec,
    ScaleJitterSpec,
    AffineSpec,
    PhotometricSpec,
    GrayscaleSpec,
    BlurSpec,
    JpegSpec,
    RandomErasingSpec,
    RandAugmentSpec,
    MosaicSpec,
    MixupSpec,
    CutmixSpec,
    CopyPasteSpec,
)
"""All operations that a document can list."""


def _require_operation(entry: Any) -> Any:
    if isinstance(entry, OperationSpec) or (isinstance(entry, Mapping) and "op" in entry):
        return entry
    raise ValueError(f"got {entry!r}; name the operation and its settings, such as {{op: hflip, p: 0.5}}")


if TYPE_CHECKING:
    Operation = OperationSpec
else:
    Operation = Annotated[reduce(or_, OPERATIONS), Field(discriminator="op"), BeforeValidator(_require_operation)]
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
    if isinstance(augment, str):
        return "preset"
    return "list" if isinstance(augment, list | tuple) else "mapping"


Preset = Annotated[PresetName, AfterValidator(PRESETS.__getitem__)]
"""The name of a preset, which validation replaces by its operations: the document that a run saves lists them."""

Augment = Annotated[
    Annotated[Preset, Tag("preset")]
    | Annotated[AugmentSpec, Tag("mapping")]
    | Annotated[tuple[Operation, ...], Tag("list")],
    Discriminator(_form),
]


def operations_of(augment: Augment) -> tuple[OperationSpec, ...]:
    """Return the operations of any form of `data.augment`, in the order in which they draw random numbers."""
    if isinstance(augment, str):
        return PRESETS[augment]
    return augment.operations() if isinstance(augment, AugmentSpec) else augment


def describe_operations(augment: Augment) -> str:
    """Return one line for each operation, with its settings, for a terminal."""
    operations = operations_of(augment)
    if not operations:
        return "augmentation: none"
    lines = []
    for operation in operations:
        settings = operation.model_dump(mode="json", exclude={"op"})
        lines.append(f"  {operation.op:<14} " + ", ".join(f"{name}: {value}" for name, value in settings.items()))
    return "\n".join(["augmentation of training images, in this order:", *lines])
