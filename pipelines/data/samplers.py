"""Which images form which batch, on which rank: functions of (seed, epoch)."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np
from torch.utils.data import Sampler

from pipelines.data.sample import SampleKey, Stream, random_numbers


class TrainBatchSampler(Sampler[list[SampleKey]]):
    """Batches of several sources, interleaved; in an epoch each image of each source comes once.

    A batch holds images of one source. The batches of a source are spread evenly over the epoch. All ranks have the
    same number of batches and at each step the same source, because a source's shuffled list is padded by wrap-around
    to a multiple of the number of ranks: with r ranks at most r - 1 images a source come twice, on different ranks.
    The last batch of a source may be smaller.

    Args:
        indices: by source, the positions of its images in the split.
        batch_sizes: by source, images a step and rank.
        seed: with the epoch it decides order and interleaving.
        rank, world_size: which share of the images is drawn here.
    """

    def __init__(
        self,
        indices: Mapping[str, Sequence[int]],
        batch_sizes: Mapping[str, int],
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.indices = {source: np.asarray(of_source) for source, of_source in sorted(indices.items()) if of_source}
        self.batch_sizes = dict(batch_sizes)
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
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
        return sum(self._num_batches(source) for source in self.indices)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        start, self.start = self.start, 0
        yield from self.batches(self.epoch)[start:]

    def batches(self, epoch: int) -> list[list[SampleKey]]:
        """Return all batches of an epoch for this rank."""
        queues = {source: iter(self._batches_of(source, epoch)) for source in self.indices}
        return [[SampleKey(epoch, int(index)) for index in next(queues[source])] for source in self._turns(epoch)]

    def _num_batches(self, source: str) -> int:
        per_rank = -(-len(self.indices[source]) // self.world_size)
        return -(-per_rank // self.batch_sizes[source])

    def _batches_of(self, source: str, epoch: int) -> list[np.ndarray]:
        position = list(self.indices).index(source)
        shuffled = random_numbers(Stream.ORDER, self.seed, epoch, position).permutation(self.indices[source])
        per_rank = -(-len(shuffled) // self.world_size)
        mine = np.resize(shuffled, per_rank * self.world_size)[self.rank :: self.world_size]
        size = self.batch_sizes[source]
        return [mine[begin : begin + size] for begin in range(0, per_rank, size)]

    def _turns(self, epoch: int) -> list[str]:
        """Return the source of each step: batch j of n takes its turn at (j + u) / n, with one u a source."""
        shifts = random_numbers(Stream.INTERLEAVE, self.seed, epoch).random(len(self.indices))
        turns = [
            ((j + shift) / self._num_batches(source), source)
            for source, shift in zip(self.indices, shifts, strict=True)
            for j in range(self._num_batches(source))
        ]
        return [source for _, source in sorted(turns)]


class EvalBatchSampler(Sampler[list[SampleKey]]):
    """Every image once over all ranks; a batch holds images of one group (such as a padded size) only.

    Nothing is padded: ranks differ by at most one image, and may differ in their number of batches. A rank without
    any image has one batch of none, since Lightning leaves out the whole pass on a rank without batches, and others
    would wait for it.

    Args:
        groups: the group of each image of the split.
        batch_sizes: by group.
    """

    def __init__(
        self, groups: Sequence[Hashable], batch_sizes: Mapping[Hashable, int], *, rank: int = 0, world_size: int = 1
    ) -> None:
        first_seen = {group: position for position, group in reversed(list(enumerate(groups)))}
        order = sorted(range(len(groups)), key=lambda index: (first_seen[groups[index]], index))
        self._batches: list[list[SampleKey]] = []
        for group, members in groupby(order[rank::world_size], key=lambda index: groups[index]):
            keys = [SampleKey(0, index) for index in members]
            size = batch_sizes[group]
            self._batches += [keys[begin : begin + size] for begin in range(0, len(keys), size)]
        if order and not self._batches:
            self._batches = [[]]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        return iter(self._batches)
