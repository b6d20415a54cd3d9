"""Mixes: combine the batches of several sources into one epoch, as functions of (seed, epoch).

Legend: W ranks, B images per step and rank; draws as in `sources`. Sources are sorted by name.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from pipelines.data.loading.sample import Stream, random_numbers
from pipelines.data.loading.sampling.images import ImageSource, split_epoch
from pipelines.data.loading.sampling.sources import Ints, Source, batch_starts, ceil_div


class Mix(ABC):
    """The steps of an epoch."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of steps of an epoch, which is equal for all epochs."""

    @abstractmethod
    def epoch(self, epoch: int) -> list[Ints]:
        """Return the batches (W, B, 2) of all steps of an epoch."""


class Interleaved(Mix):
    """Each source once; a batch has one source, and the batches of a source are spread evenly over the epoch."""

    def __init__(self, sources: Mapping[str, Source], seed: int) -> None:
        self.sources = dict(sorted(sources.items()))
        self.seed = seed

    def __len__(self) -> int:
        return sum(source.num_steps for source in self.sources.values())

    def epoch(self, epoch: int) -> list[Ints]:
        """Return the batches (W, B, 2) of all steps of an epoch."""
        return spread([source.once(epoch) for source in self.sources.values()], self.seed, epoch)


class InProportion(Mix):
    """As many steps as `Interleaved`, but a source gets images in proportion to num_images ** (1 / temperature).

    A batch has one source and is full. A source continues across epochs: images that one epoch has not drawn are drawn
    in the next.
    """

    def __init__(self, sources: Mapping[str, Source], seed: int, temperature: float = 1.0) -> None:
        self.sources = dict(sorted(sources.items()))
        self.seed = seed
        weights = [s.num_images ** (1 / temperature) / s.batch_size for s in self.sources.values()]
        shares = share_out(sum(source.num_steps for source in self.sources.values()), weights)
        self.num_steps = dict(zip(self.sources, shares, strict=True))

    def __len__(self) -> int:
        return sum(self.num_steps.values())

    def epoch(self, epoch: int) -> list[Ints]:
        """Return the batches (W, B, 2) of all steps of an epoch."""
        streams = [source.stream(epoch, self.num_steps[name]) for name, source in self.sources.items()]
        return spread(streams, self.seed, epoch)


class Concatenated(Mix):
    """One round of every source, shuffled together; a batch mixes sources, and the last one may be smaller.

    The epoch is padded by wrap-around to a multiple of the number of ranks. Sources group images by aspect ratio either
    all or not at all.
    """

    def __init__(self, sources: Mapping[str, ImageSource], seed: int) -> None:
        self.orders = [source.order for _, source in sorted(sources.items())]
        self.seed = seed
        settings = {(s.batch_size, s.world_size, s.min_batch) for s in sources.values()}
        ((self.batch_size, self.world_size, self.min_batch),) = settings
        self.aspect_groups = next(iter(sources.values())).aspect_groups

    def __len__(self) -> int:
        of_rank = ceil_div(sum(map(len, self.orders)), self.world_size)
        return len(batch_starts(of_rank, self.batch_size, self.min_batch))

    def epoch(self, epoch: int) -> list[Ints]:
        """Return the batches (W, B, 2) of all steps of an epoch."""
        images = np.concatenate([order.round(epoch) for order in self.orders])
        shuffled = random_numbers(Stream.INTERLEAVE, self.seed, epoch).permutation(images)
        return split_epoch(shuffled, epoch, self.batch_size, self.world_size, self.aspect_groups, self.min_batch)


def spread(batches: Sequence[Sequence[Ints]], seed: int, epoch: int) -> list[Ints]:
    """Return the batches of all sources in order of (j + u) / n for batch j of n, with one random u per source."""
    shifts = random_numbers(Stream.INTERLEAVE, seed, epoch).random(len(batches))
    turns = [
        ((j + shift) / len(of_source), source, j)
        for source, (of_source, shift) in enumerate(zip(batches, shifts, strict=True))
        for j in range(len(of_source))
    ]
    return [batches[source][j] for _, source, j in sorted(turns)]


def share_out(total: int, weights: Sequence[float]) -> list[int]:
    """Return `total` divided in proportion to the weights by largest remainder, with every share at least 1.

    A share that would be less than 1 becomes 1, and the others divide the rest. `total` must be at least the number of
    weights.
    """
    small: set[int] = set()
    while True:
        rest, rest_weight = total - len(small), sum(w for j, w in enumerate(weights) if j not in small)
        quotas = {j: rest * weight / rest_weight for j, weight in enumerate(weights) if j not in small}
        if not (too_small := {j for j, quota in quotas.items() if quota < 1 - 1e-9}):
            break
        small |= too_small
    shares = [max(1, int(quotas.get(j, 1) + 1e-9)) for j in range(len(weights))]
    by_remainder = sorted(quotas, key=lambda j: (shares[j] - quotas[j], j))
    for j in by_remainder[: total - sum(shares)]:
        shares[j] += 1
    return shares
