"""Operations that move pixels and boxes."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from pipelines.spec.base import Probability
from pipelines.spec.operations.base import OperationSpec


def _require_zoom_range(zoom: tuple[float, float]) -> tuple[float, float]:
    if not 0.1 <= zoom[0] <= zoom[1] <= 10:
        raise ValueError(f"got {list(zoom)}; write [low, high] with 0.1 <= low <= high <= 10")
    return zoom


ColorValue = Annotated[int, Field(ge=0, le=255)]
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


class AffineSpec(OperationSpec):
    """Rotate, shear, scale and shift the image about its center with probability `p`.

    Each value is drawn uniformly from a range around no change (the scale log-uniformly).
    """

    IMPLEMENTATION: ClassVar[str] = "pipelines.data.loading.operations.geometry:move"

    op: Literal["affine"] = "affine"
    p: Probability = 0.5
    degrees: Annotated[float, Field(ge=0, le=180)] = Field(10.0, description="largest rotation to either side")
    shear: Annotated[float, Field(ge=0, le=60)] = Field(0.0, description="largest shear to either side, in degrees")
    translate: Annotated[float, Field(ge=0, le=0.9)] = Field(
        0.0, description="largest shift to each side, as a share of the image's width and height"
    )
    scale: ZoomRange = Field((1.0, 1.0), description="range of the scale, such as [0.8, 1.25]")
    fill: tuple[ColorValue, ColorValue, ColorValue] = Field(
        (0, 0, 0), description="red, green and blue of the uncovered area, 0 to 255"
    )
    boxes: Literal["corners", "ellipse"] = Field(
        "corners",
        description="what a moved box encloses: the corners of the moved box, or the ellipse inside it (round objects)",
    )
