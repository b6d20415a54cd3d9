"""The batch sampler of training."""

from collections.abc import Iterator

from torch.utils.data import Sampler

from pipelines.data.loading.sample import SampleKey
from pipelines.data.loading.sampling.mixing import Mix


class TrainBatchSampler(Sampler[list[SampleKey]]):
    """This rank's share of every batch of an epoch, from its start or resumed in the middle.

    The number of batches is equal on all ranks and in all epochs.

    Args:
        mix: the draws of all ranks.
        rank: the rank whose share is drawn.
    """

    def __init__(self, mix: Mix, *, rank: int = 0) -> None:
        self.mix = mix
        self.rank = rank
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
        return min(joint.shape[1] for joint in self.mix.epoch(0))

    def batches(self, epoch: int) -> list[list[SampleKey]]:
        """Return all batches of an epoch for this rank."""
        return [
            [SampleKey(epoch, index, repeat) for index, repeat in joint[self.rank].tolist()]
            for joint in self.mix.epoch(epoch)
        ]
