"""The base class of the settings of all operations of `data.augment`."""

from typing import ClassVar

from pipelines.spec.base import Spec


class OperationSpec(Spec):
    """One operation of `data.augment`."""

    IMPLEMENTATION: ClassVar[str]
    """`module:function` of the function that applies the operation, see `pipelines.data.loading.operations.base`."""

    op: str
