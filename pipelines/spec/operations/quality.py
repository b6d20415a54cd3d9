"""Operations that lower the quality of images."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from pipelines.spec.base import Probability
from pipelines.spec.operations.base import OperationSpec


def _require_sigma_range(sigma: tuple[float, float]) -> tuple[float, float]:
    if not 0 < sigma[0] <= sigma[1] <= 20:
        raise ValueError(f"got {list(sigma)}; write [low, high] with 0 < low <= high <= 20")
    return sigma


def _require_quality_range(quality: tuple[int, int]) -> tuple[int, int]:
    if not 1 <= quality[0] <= quality[1] <= 100:
        raise ValueError(f"got {list(quality)}; write [low, high] with 1 <= low <= high <= 100")
    return quality


class BlurSpec(OperationSpec):
    """Blur with a Gaussian, with probability `p`."""

    IMPLEMENTATION: ClassVar[str] = "pipelines.data.loading.operations.quality:blur"

    op: Literal["blur"] = "blur"
    p: Probability = 0.1
    sigma: Annotated[tuple[float, float], AfterValidator(_require_sigma_range)] = Field(
        (0.3, 1.5), description="range of the standard deviation, in pixels of the network's input"
    )


class JpegSpec(OperationSpec):
    """Compress as JPEG with a random quality and decompress again, with probability `p`."""

    IMPLEMENTATION: ClassVar[str] = "pipelines.data.loading.operations.quality:compress"

    op: Literal["jpeg"] = "jpeg"
    p: Probability = 0.1
    quality: Annotated[tuple[int, int], AfterValidator(_require_quality_range)] = Field(
        (30, 90), description="range of the quality, 1 to 100"
    )
