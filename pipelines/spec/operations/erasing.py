"""Operations that hide parts of images."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from pipelines.spec.base import Probability
from pipelines.spec.operations.base import OperationSpec
from pipelines.spec.operations.geometry import ColorValue


def _require_area_range(area: tuple[float, float]) -> tuple[float, float]:
    if not 0 < area[0] <= area[1] <= 0.9:
        raise ValueError(f"got {list(area)}; write [low, high] with 0 < low <= high <= 0.9")
    return area


def _require_aspect_range(aspect: tuple[float, float]) -> tuple[float, float]:
    if not 0.05 <= aspect[0] <= aspect[1] <= 20:
        raise ValueError(f"got {list(aspect)}; write [low, high] with 0.05 <= low <= high <= 20")
    return aspect


class RandomErasingSpec(OperationSpec):
    """Replace a random rectangle, with probability `p` (Zhong et al. 2017, arXiv 1708.04896)."""

    IMPLEMENTATION: ClassVar[str] = "pipelines.data.loading.operations.erasing:erase"

    op: Literal["random_erasing"] = "random_erasing"
    p: Probability = 0.5
    area: Annotated[tuple[float, float], AfterValidator(_require_area_range)] = Field(
        (0.02, 0.2), description="range of the rectangle's share of the image"
    )
    aspect: Annotated[tuple[float, float], AfterValidator(_require_aspect_range)] = Field(
        (0.3, 3.3), description="range of the rectangle's height / width"
    )
    fill: Literal["noise"] | tuple[ColorValue, ColorValue, ColorValue] = Field(
        "noise", description="noise, or red, green and blue, 0 to 255"
    )
