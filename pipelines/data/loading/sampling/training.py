"""The batch sampler of training."""

from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

from pipelines.data.loading.planned_sample import ImageSize
from pipelines.data.loading.sample import SampleKey, Stream, random_numbers
from pipelines.data.loading.sampling.mixing import Mix


class MultiScale:
    """Sizes of batches: a function of (seed, epoch, batch), equal on all ranks.

    Args:
        image_sizes: the sizes to draw from, each with equal probability.
        seed: seed of the draws.
    """

    def __init__(self, image_sizes: Sequence[ImageSize], seed: int) -> None:
        self.image_sizes = image_sizes
        self.seed = seed

    def epoch(self, epoch: int, num_batches: int) -> list[ImageSize]:
        """Return the size of each batch of an epoch."""
        rng = random_numbers(Stream.IMAGE_SIZE, self.seed, epoch)
        return [self.image_sizes[drawn] for drawn in rng.integers(len(self.image_sizes), size=num_batches)]


class TrainBatchSampler(Sampler[list[SampleKey]]):
    """This rank's share of every batch of an epoch, from its start or resumed in the middle.

    The number of batches is equal on all ranks and in all epochs.

    Args:
        mix: the draws of all ranks.
        rank: the rank whose share is drawn.
        multi_scale: the sizes of the batches; None: all have `data.image_size`.
        num_combining_epochs: number of epochs with operations over several images; None: all.
    """

    def __init__(
        self,
        mix: Mix,
        *,
        rank: int = 0,
        multi_scale: MultiScale | None = None,
        num_combining_epochs: int | None = None,
    ) -> None:
        self.mix = mix
        self.rank = rank
        self.multi_scale = multi_scale
        self.num_combining_epochs = num_combining_epochs
        self.epoch = 0
        self.start = 0

    @property
    def sampler(self) -> "TrainBatchSampler":
        """This sampler itself: Lightning 2.6 calls `set_epoch` only of `loader.batch_sampler.sampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration, which starts at its first batch unless the epoch was set already."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def start_at(self, batch: int) -> None:
        """Set the batch of the epoch at which the next iteration, and only that one, starts."""
        self.start = batch

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch, wherever the next iteration starts."""
        return len(self.mix)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        start, self.start = self.start, 0
        yield from self.batches(self.epoch)[start:]

    def min_batch(self) -> int:
        """Return the number of images of the smallest batch of an epoch, which is equal in all epochs."""
        return min(int(joint.shape[1]) for joint in self.mix.epoch(0))

    def batches(self, epoch: int) -> list[list[SampleKey]]:
        """Return all batches of an epoch for this rank."""
        steps = self.mix.epoch(epoch)
        sizes = [None] * len(steps) if self.multi_scale is None else self.multi_scale.epoch(epoch, len(steps))
        is_combined = self.num_combining_epochs is None or epoch < self.num_combining_epochs
        return [
            [SampleKey(epoch, index, repeat, size, is_combined) for index, repeat in joint[self.rank].tolist()]
            for joint, size in zip(steps, sizes, strict=True)
        ]
