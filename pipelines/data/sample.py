"""What travels from the data to the model.

Legend: B batch, N boxes, H W size in pixels.
"""

from dataclasses import dataclass, field

from torch import Tensor

from heads.base import Target


@dataclass(frozen=True)
class SampleKey:
    """What a sampler draws: the epoch travels with the index, so that workers augment from (seed, epoch, index)."""

    epoch: int
    index: int


@dataclass(frozen=True)
class ImageInfo:
    """Where an image comes from, and how its pixels were changed.

    `size_hw` is the size before padding; `scale_xy` is what x and y of the original were really multiplied with.
    """

    image_id: int
    file_name: str
    source: str
    original_hw: tuple[int, int]
    size_hw: tuple[int, int]
    scale_xy: tuple[float, float]


@dataclass
class Sample:
    """One image (3, H, W) uint8 RGB, with targets of only the tasks that it is labelled for."""

    image: Tensor
    info: ImageInfo
    targets: dict[str, Target] = field(default_factory=dict)


@dataclass
class Batch:
    """Images (B, 3, H, W) uint8, padded at the right and the bottom to multiples of 32.

    `targets[task][b]` is None where image b is not labelled for the task; every task of the model is a key.
    """

    images: Tensor
    infos: list[ImageInfo]
    targets: dict[str, list[Target | None]]

    def __len__(self) -> int:
        return len(self.infos)
