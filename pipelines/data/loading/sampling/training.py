"""Batches to train on."""

from collections.abc import Iterator

from torch.utils.data import Sampler

from pipelines.data.loading.sample import SampleKey
from pipelines.data.loading.sampling.mixing import Mix


class TrainBatchSampler(Sampler[list[SampleKey]]):
    """This rank's share of every batch of an epoch, from its beginning or going on in the middle of it.

    All ranks have the same number of batches, as many in every epoch.

    Args:
        mix: what all ranks draw.
        rank: whose share of it is drawn here.
    """

    def __init__(self, mix: Mix, *, rank: int = 0) -> None:
        self.mix = mix
        self.rank = rank
        self.epoch = 0
        self.start = 0

    @property
    def sampler(self) -> "TrainBatchSampler":
        """This sampler: Lightning 2.6 calls `set_epoch` of `loader.batch_sampler.sampler` alone."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be of `epoch`, from its beginning unless that epoch was set already."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def start_at(self, batch: int) -> None:
        """Let the next iteration, and only that one, begin at a batch of the epoch."""
        self.start = batch

    def __len__(self) -> int:
        """Batches of a whole epoch, wherever the next iteration begins."""
        return len(self.mix)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        start, self.start = self.start, 0
        yield from self.batches(self.epoch)[start:]

    def batches(self, epoch: int) -> list[list[SampleKey]]:
        """Return all batches of an epoch for this rank."""
        return [
            [SampleKey(epoch, index, repeat) for index, repeat in joint[self.rank].tolist()]
            for joint in self.mix.epoch(epoch)
        ]
