"""Collate samples of different sizes into one batch."""

from collections.abc import Sequence

import torch

from pipelines.data.loading.sample import Batch, Sample, padded_size


class Collate:
    """Pads at the right and the bottom with 0 to the batch's largest size, rounded up to multiples of 32.

    Args:
        tasks: every task of the model; each is a key of the batch's targets.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        self.tasks = sorted(tasks)

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        sizes_hw = [sample.info.size_hw for sample in samples]
        height, width = padded_size(
            (max((h for h, _ in sizes_hw), default=0), max((w for _, w in sizes_hw), default=0))
        )
        images = torch.zeros(len(samples), 3, height, width, dtype=torch.uint8)
        for padded, sample in zip(images, samples, strict=True):
            padded[:, : sample.info.size_hw[0], : sample.info.size_hw[1]] = sample.image
        return Batch(
            images=images,
            infos=[sample.info for sample in samples],
            targets={task: [sample.targets.get(task) for sample in samples] for task in self.tasks},
        )
