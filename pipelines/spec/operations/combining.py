"""Operations that combine several images of a source into one."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipelines.spec.base import Positive, Probability
from pipelines.spec.operations.base import OperationSpec
from pipelines.spec.operations.geometry import ZoomRange


class CombiningSpec(OperationSpec):
    """An operation over several images; the last epochs of `data.close_mosaic_epochs` have none."""

    COMBINES_IMAGES: ClassVar[bool] = True


class MosaicSpec(CombiningSpec):
    """Show four images that meet at a random point (Bochkovskiy et al. 2020, arXiv 2004.10934, section 3.3)."""

    IMPLEMENTATION: ClassVar[str] = "pipelines.data.loading.operations.combining:show_mosaic"

    op: Literal["mosaic"] = "mosaic"
    p: Probability = 0.5
    range: ZoomRange = Field((0.5, 1.0), description="range of the zoom of each part; it has at least the part's size")


class MixupSpec(CombiningSpec):
    """Blend two images (Zhang et al. 2018, arXiv 1710.09412)."""

    IMPLEMENTATION: ClassVar[str] = "pipelines.data.loading.operations.combining:blend"

    op: Literal["mixup"] = "mixup"
    p: Probability = 0.5
    alpha: Positive = Field(0.8, description="the share of the image is drawn from Beta(alpha, alpha)")


class CutmixSpec(CombiningSpec):
    """Replace a rectangle by a part of another image (Yun et al. 2019, arXiv 1905.04899)."""

    IMPLEMENTATION: ClassVar[str] = "pipelines.data.loading.operations.combining:replace_rectangle"

    op: Literal["cutmix"] = "cutmix"
    p: Probability = 0.5
    alpha: Positive = Field(1.0, description="the share of the image is drawn from Beta(alpha, alpha)")


class CopyPasteSpec(CombiningSpec):
    """Paste the boxes of random objects of another image at random places (Ghiasi et al. 2021, arXiv 2012.07177)."""

    PASTES_OBJECTS: ClassVar[bool] = True
    IMPLEMENTATION: ClassVar[str] = "pipelines.data.loading.operations.combining:paste_objects"

    op: Literal["copy_paste"] = "copy_paste"
    p: Probability = 0.5
    max_objects: Annotated[int, Field(ge=1, le=100)] = 3
    range: ZoomRange = Field((0.8, 1.25), description="range of the zoom of an object")
