"""Samples, batches and their keys: everything that passes from the data to the model.

Legend: B batch, N boxes, H W size in pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heads.base import Target
from pipelines.data.loading.planned_sample import ImageSize

SIZE_DIVISOR = 32
"""Batches are padded to multiples of it: the stride of c5."""


@dataclass(frozen=True)
class SampleKey:
    """One draw of a sampler. It carries the epoch, so that workers augment from (seed, epoch, index).

    Attributes:
        epoch: the epoch.
        index: position of the image in the split.
        repeat: number of earlier draws of the same image in the epoch; each draw is augmented differently.
        image_size: size of the batch in training at several scales; None: `data.image_size`.
        is_combined: whether operations over several images may change the sample.
    """

    epoch: int
    index: int
    repeat: int = 0
    image_size: ImageSize | None = None
    is_combined: bool = True


class Stream(IntEnum):
    """Purposes of random numbers. Streams of one seed are independent.

    0 is not a member, because numpy's seed sequences give equal numbers for (1, 0) and (1,).
    """

    AUGMENT = 1
    ORDER = 2
    INTERLEAVE = 3
    IDENTITIES = 4
    IDENTITY_IMAGES = 5
    IMAGE_SIZE = 6
    ASPECT = 7
    CORRUPTION = 8


def random_numbers(stream: Stream, *position: int) -> np.random.Generator:
    """Return a generator whose state is a function of the stream and a position such as (seed, epoch, index)."""
    return np.random.default_rng((*position, int(stream)))


@dataclass(frozen=True)
class ImageInfo:
    """Origin of an image, and the geometry of its change.

    `size_hw` is the size before padding; `scale_xy` are the exact factors by which x and y of the original were scaled.
    """

    image_id: int
    file_name: str
    source: str
    original_hw: tuple[int, int]
    size_hw: tuple[int, int]
    scale_xy: tuple[float, float]


@dataclass
class Sample:
    """One image (3, H, W) uint8 RGB, with targets for only those tasks that it is labeled for.

    `warnings` are those about the file of a new image, for its answer.
    """

    image: Tensor
    info: ImageInfo
    targets: dict[str, Target] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass
class Batch:
    """Images (B, 3, H, W) uint8, padded at the right and the bottom to multiples of 32.

    `targets[task][b]` is None if image b is not labeled for the task; every task of the model is a key.
    """

    images: Tensor
    infos: list[ImageInfo]
    targets: dict[str, list[Target | None]]

    def __len__(self) -> int:
        return len(self.infos)

    @property
    def image_sizes_hw(self) -> list[tuple[int, int]]:
        """Sizes of the images before padding."""
        return [info.size_hw for info in self.infos]

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields with targets as arrays.

        Torch sends each tensor of a worker in a file of its own: with 9 tensors per image and 4 workers, the batches on
        their way would have thousands of open files. Arrays are sent in the message itself.
        """
        return {**vars(self), "targets": _mapped(self.targets, lambda tensor: tensor.numpy())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({**state, "targets": _mapped(state["targets"], torch.from_numpy)})

    def pin_memory(self) -> "Batch":
        """Return the batch with its images in page-locked memory (the loader's pinning thread calls it)."""
        return replace(self, images=self.images.pin_memory())

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on `device`; pinned images are copied asynchronously. Lightning calls it."""
        images = self.images.to(device, non_blocking=self.images.is_pinned())
        return replace(self, images=images, targets=_mapped(self.targets, lambda tensor: tensor.to(device)))


def _mapped(
    targets: Mapping[str, Sequence[Target | None]], change: Callable[[Any], Any]
) -> dict[str, list[Target | None]]:
    """Return targets whose tensors are changed."""

    def mapped(target: Target) -> Target:
        return replace(target, **{f.name: change(getattr(target, f.name)) for f in fields(target)})

    return {
        task: [None if target is None else mapped(target) for target in of_task] for task, of_task in targets.items()
    }


def padded_size(size_hw: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) rounded up to multiples of 32."""
    height, width = (-(-side // SIZE_DIVISOR) * SIZE_DIVISOR for side in size_hw)
    return height, width
