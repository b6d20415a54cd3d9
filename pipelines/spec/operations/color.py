"""Operations that change colors."""

from typing import ClassVar, Literal

from pipelines.spec.base import Probability
from pipelines.spec.operations.base import OperationSpec


class PhotometricSpec(OperationSpec):
    """Change brightness, contrast, saturation and color cast, each with probability `p`."""

    IMPLEMENTATION: ClassVar[str] = "pipelines.data.loading.operations.color:change_color"

    op: Literal["photometric"] = "photometric"
    p: Probability = 0.5


class GrayscaleSpec(OperationSpec):
    """Remove the color with probability `p`."""

    IMPLEMENTATION: ClassVar[str] = "pipelines.data.loading.operations.color:remove_color"

    op: Literal["grayscale"] = "grayscale"
    p: Probability = 0.1
