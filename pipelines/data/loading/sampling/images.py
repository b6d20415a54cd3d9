"""Sources that draw images: each once per round, or images of rare classes more often.

Legend: N images, W ranks, B images per step and rank.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from pipelines.data.loading.sample import Stream, random_numbers
from pipelines.data.loading.sampling.aspect import AspectGroups
from pipelines.data.loading.sampling.sources import (
    Ints,
    Source,
    batch_starts,
    ceil_div,
    counted,
    padded,
    split_over_ranks,
)

Floats = NDArray[np.float64]


class Order(ABC):
    """The order of images, as one list for each round."""

    def __init__(self, indices: Sequence[int], *, seed: int, source: int) -> None:
        self.indices = np.asarray(indices, dtype=np.int64)
        self._position = (seed, source)

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images of a round, which is equal for all rounds."""

    @abstractmethod
    def round(self, number: int) -> Ints:
        """Return the images of a round in a random order."""

    def _random_numbers(self, number: int) -> np.random.Generator:
        seed, source = self._position
        return random_numbers(Stream.ORDER, seed, number, source)


class Shuffled(Order):
    """Each image once per round."""

    def __len__(self) -> int:
        return len(self.indices)

    def round(self, number: int) -> Ints:
        """Return the images of a round in a random order."""
        return self._random_numbers(number).permutation(self.indices)


class Repeated(Order):
    """Each image floor(r) or ceil(r) times per round, r times on average, where r is its factor.

    The images that are rounded up are drawn together, by systematic sampling over a random order, so that a round
    always has ceil(sum of all factors) images. If the sum has a
    fraction, at most one image is repeated once more than it was drawn.

    Args:
        factors: r of each image, at least 1.
    """

    def __init__(self, indices: Sequence[int], factors: Floats, *, seed: int, source: int) -> None:
        super().__init__(indices, seed=seed, source=source)
        self.factors = factors
        self._len = int(np.ceil(round(float(factors.sum()), 6)))

    def __len__(self) -> int:
        return self._len

    def round(self, number: int) -> Ints:
        """Return the images of a round in a random order."""
        rng = self._random_numbers(number)
        order = rng.permutation(len(self.indices))
        ends = np.floor(np.cumsum(self.factors[order]) + rng.random()).astype(np.int64)
        drawn = np.repeat(self.indices[order], np.diff(ends, prepend=0))
        return np.resize(rng.permutation(drawn), len(self))


def repeat_factors(classes: Sequence[Collection[str] | None], threshold: float) -> Floats:
    """Return the repeat factor (N,) of each image: max over its classes c of max(1, sqrt(threshold / f_c)).

    f_c is the share of labeled images with the class (Gupta et al. 2019, arXiv 1908.03195, section 5.2).

    Args:
        classes: the different classes of each image; None if it is not labeled.
        threshold: classes with a smaller share are rare.
    """
    labeled = [of_image for of_image in classes if of_image is not None]
    counts = Counter(chain.from_iterable(labeled))
    factors = {name: max(1.0, (threshold * len(labeled) / count) ** 0.5) for name, count in counts.items()}
    return np.array([max((factors[name] for name in of_image or ()), default=1.0) for of_image in classes])


class ImageSource(Source):
    """Draws images in the order of its rounds, and distributes them over the ranks.

    Args:
        order: the rounds.
        batch_size: B.
        world_size: W.
        aspect_groups: arranges an epoch in batches of similar aspect ratios; None: it stays in the order of the rounds.
        min_batch: a smaller last batch of `once` is joined with the one before.
    """

    def __init__(
        self,
        order: Order,
        batch_size: int,
        world_size: int = 1,
        aspect_groups: AspectGroups | None = None,
        *,
        min_batch: int = 1,
    ) -> None:
        self.order = order
        self.min_batch = min_batch
        self.aspect_groups = aspect_groups
        self.batch_size = batch_size
        self.world_size = world_size
        self.num_images = len(order.indices)
        self.num_steps = len(batch_starts(ceil_div(len(order), world_size), batch_size, min_batch))

    def once(self, epoch: int) -> list[Ints]:
        """Return one round in batches (W, B, 2); the last one may be smaller, or larger if
        `min_batch` requires it.

        The round is padded by wrap-around to a multiple of the number of ranks: at most W - 1 images are drawn twice,
        on different ranks.
        """
        images = self.order.round(epoch)
        return split_epoch(images, epoch, self.batch_size, self.world_size, self.aspect_groups, self.min_batch)

    def stream(self, epoch: int, num_steps: int) -> list[Ints]:
        """Return `num_steps` full batches (W, B, 2); a batch may contain the end of a round and the start of the
        next one."""
        count = num_steps * self.batch_size * self.world_size
        round_number, offset = divmod(epoch * count, len(self.order))
        rounds = [self.order.round(round_number + j) for j in range(ceil_div(offset + count, len(self.order)))]
        images = np.concatenate(rounds)[offset : offset + count]
        return split_epoch(images, epoch, self.batch_size, self.world_size, self.aspect_groups)


def split_epoch(
    images: Ints,
    epoch: int,
    batch_size: int,
    world_size: int,
    aspect_groups: AspectGroups | None,
    min_batch: int = 1,
) -> list[Ints]:
    """Return the images (N,) of an epoch in batches (W, B, 2), see `split_over_ranks`."""
    draws = padded(counted(images), world_size)
    if aspect_groups is not None:
        draws = aspect_groups.arranged(draws, world_size * batch_size, epoch)
    return split_over_ranks(draws, batch_size, world_size, min_batch)
