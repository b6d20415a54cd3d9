"""Inputs of exported graphs: images of the training split, and one image of noise."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipelines.data.loading.collate import Collate
from pipelines.data.loading.datamodule import JobData
from pipelines.data.loading.sample import SampleKey, padded_size
from pipelines.runtimes.base import Arrays
from pipelines.runtimes.network import pad_images


def calibration_inputs(
    data: JobData, num_images: int, sizes_hw: Sequence[tuple[int, int]] | None = None
) -> list[Arrays]:
    """Return the inputs for images of the training split, one image each, without augmentation.

    The images are at equal distances in the order of the split, so that they are the same each time.

    Args:
        data: loaders of the data.
        num_images: at most.
        sizes_hw: the sizes of images that the graph takes; None: it takes any.
    """
    dataset = data.dataset("train", augmented=False)
    total = len(dataset)
    positions = np.linspace(0, total - 1, min(num_images, total)).round().astype(int)
    collate = Collate([])
    inputs: list[Arrays] = []
    for position in positions.tolist():
        batch = collate([dataset[SampleKey(0, position)]])
        sizes = np.array(batch.image_sizes_hw, dtype=np.int64)
        images = batch.images if sizes_hw is None else pad_images(batch.images, sizes_hw)
        inputs.append({"images": images.numpy(), "sizes_hw": sizes})
    return inputs


def one_image(size_hw: tuple[int, int]) -> tuple[Tensor, list[tuple[int, int]]]:
    """Return one image of noise (1, 3, H, W) uint8 and its size, for measurements."""
    generator = torch.Generator().manual_seed(0)
    padded = padded_size(size_hw)
    return torch.randint(0, 256, (1, 3, *padded), dtype=torch.uint8, generator=generator), [size_hw]
