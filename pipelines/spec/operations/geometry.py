"""Operations that move pixels and boxes."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from pipelines.spec.base import Probability
from pipelines.spec.operations.base import OperationSpec


def _require_zoom_range(zoom: tuple[float, float]) -> tuple[float, float]:
    if not 0.1 <= zoom[0] <= zoom[1] <= 10:
        raise ValueError(f"got {list(zoom)}; write [low, high] with 0.1 <= low <= high <= 10")
    return zoom


ZoomRange = Annotated[tuple[float, float], AfterValidator(_require_zoom_range)]


class HorizontalFlipSpec(OperationSpec):
    """Swap left and right."""

    IMPLEMENTATION: ClassVar[str] = "pipelines.data.loading.operations.geometry:flip_horizontally"

    op: Literal["hflip"] = "hflip"
    p: Probability = 0.5


class VerticalFlipSpec(OperationSpec):
    """Swap top and bottom."""

    IMPLEMENTATION: ClassVar[str] = "pipelines.data.loading.operations.geometry:flip_vertically"

    op: Literal["vflip"] = "vflip"
    p: Probability = 0.5


class ScaleJitterSpec(OperationSpec):
    """Zoom by a random factor, then crop or pad to the size that evaluation gives the image."""

    IMPLEMENTATION: ClassVar[str] = "pipelines.data.loading.operations.geometry:jitter_scale"

    op: Literal["scale_jitter"] = "scale_jitter"
    range: ZoomRange | None = Field(None, description="range of the zoom, such as [0.5, 2.0]; null: no zoom")
