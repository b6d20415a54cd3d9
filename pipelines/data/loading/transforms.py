"""The transforms of training and evaluation.

Legend: N boxes, H W size in pixels. Pixel 0 covers [0, 1]; boxes are xyxy and scale without any "+1".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from heads.base import Target
from pipelines.data.loading.operations.base import implementation_of
from pipelines.data.loading.planned_sample import (
    EmptySource,
    ImageSize,
    PlannedSample,
    SampleSource,
    fitted_size,
)
from pipelines.data.loading.target_boxes import join_boxes, split_boxes
from pipelines.spec.operations.base import OperationSpec


@dataclass(frozen=True)
class Transformed:
    """An image (3, H, W) uint8, its targets in its pixels, and the scale really applied to x and y."""

    image: Tensor
    targets: dict[str, Target]
    scale_xy: tuple[float, float]


class EvalTransform:
    """Resizes to the fitted size; keeps every box, in its order.

    Antialiased bilinear on uint8, for images whose memory is HWC (as decoded): 0.3 ms for 640x480 -> 320x240 on one
    core, half of the time that the same call takes on CHW memory.
    """

    def __init__(self, image_size: ImageSize) -> None:
        self.image_size = image_size

    def __call__(
        self,
        image: Tensor,
        targets: dict[str, Target],
        rng: np.random.Generator | None = None,
        source: SampleSource | None = None,
        image_size: ImageSize | None = None,
    ) -> Transformed:
        """Return the resized image and targets. Nothing is random; the other arguments are for the train transform."""
        height, width = image.shape[-2:]
        size = fitted_size((height, width), self.image_size)
        scale_xy = (size[1] / width, size[0] / height)
        return Transformed(
            image=F.resize(image, list(size), antialias=True),
            targets=split_boxes(targets, join_boxes(targets) * torch.tensor(scale_xy * 2)),
            scale_xy=scale_xy,
        )


class TrainTransform:
    """Applies operations one after the other.

    The operations plan their changes, which are executed in one pass over the pixels if they fit together, see
    `PlannedSample`. The order of the list decides which operation draws random numbers first, and the order of
    changes that cannot be executed in one pass. The result has the size of the image fitted inside the `image_size`.

    Args:
        image_size: `data.image_size` of the document.
        operations: the operations of `data.augment`.
    """

    def __init__(self, image_size: ImageSize, operations: Sequence[OperationSpec]) -> None:
        self.image_size = image_size
        self.operations = [(implementation_of(operation), operation) for operation in operations]

    def __call__(
        self,
        image: Tensor,
        targets: dict[str, Target],
        rng: np.random.Generator,
        source: SampleSource | None = None,
        image_size: ImageSize | None = None,
    ) -> Transformed:
        """Return the augmented image and targets: a function of the arguments and the generator's state.

        Args:
            image: (3, H, W) uint8.
            targets: the targets by task.
            rng: the generator of all random numbers.
            source: further images; without them, operations that combine several images are skipped.
            image_size: size of the batch; None: that of the transform.
        """
        height, width = image.shape[-2:]
        sample = PlannedSample.start(image, targets, fitted_size((height, width), image_size or self.image_size))
        others: SampleSource = EmptySource() if source is None else source
        for apply, operation in self.operations:
            if not operation.COMBINES_IMAGES or len(others):
                sample = apply(operation, sample, rng, others)
        rendered = sample.render()
        return Transformed(rendered.image, rendered.targets, rendered.scale_xy)
