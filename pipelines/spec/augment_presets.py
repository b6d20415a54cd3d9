"""The presets of `data.augment`: names for lists of operations."""

from typing import Literal

from pipelines.spec.operations.base import OperationSpec
from pipelines.spec.operations.color import GrayscaleSpec, PhotometricSpec
from pipelines.spec.operations.erasing import RandomErasingSpec
from pipelines.spec.operations.geometry import AffineSpec, HorizontalFlipSpec, ScaleJitterSpec
from pipelines.spec.operations.quality import BlurSpec, JpegSpec

PresetName = Literal["none", "light", "default", "strong"]

PRESETS: dict[PresetName, tuple[OperationSpec, ...]] = {
    "none": (),
    "light": (HorizontalFlipSpec(p=0.5), PhotometricSpec(p=0.3)),
    "default": (ScaleJitterSpec(range=(0.75, 1.33)), HorizontalFlipSpec(p=0.5), PhotometricSpec(p=0.5)),
    "strong": (
        ScaleJitterSpec(range=(0.4, 2.0)),
        HorizontalFlipSpec(p=0.5),
        AffineSpec(p=0.3, degrees=10.0, shear=5.0),
        PhotometricSpec(p=0.8),
        GrayscaleSpec(p=0.05),
        BlurSpec(p=0.05),
        JpegSpec(p=0.1),
        RandomErasingSpec(p=0.2),
    ),
}
"""Operations that suit most photographs: none of them turns an image upside down. docs/augmentation.md lists them."""
