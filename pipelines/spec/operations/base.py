"""The base class of the settings of all operations of `data.augment`."""

from typing import ClassVar

from pipelines.spec.base import Spec


class OperationSpec(Spec):
    """One operation of `data.augment`."""

    IMPLEMENTATION: ClassVar[str]
    """`module:function` of the function that applies the operation, see `pipelines.data.loading.operations.base`."""

    COMBINES_IMAGES: ClassVar[bool] = False
    """True for an operation that takes other images from its source. It is skipped where there are none, as in the last
    epochs of a training."""

    PASTES_OBJECTS: ClassVar[bool] = False
    """True for an operation that only takes objects from the other images, and keeps the labels of the whole image."""

    op: str
