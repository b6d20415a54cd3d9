"""The order of an epoch in which the images of a batch have similar aspect ratios, so that less padding is computed.

Legend: N draws, W ranks, B images per step and rank.
"""

from collections.abc import Sequence

import numpy as np

from pipelines.base.records import ImageRecord
from pipelines.data.loading.sample import Stream, random_numbers
from pipelines.data.loading.sampling.sources import Ints

POOL_STEPS = 16
"""Images are sorted within as many steps. More steps save little padding, and would make batches of different epochs
more alike."""

ASPECT_STEP = 0.05
"""Aspect ratios that differ by less are considered equal: 5 % of 640 pixels are one multiple of 32."""


class AspectGroups:
    """Arranges draws so that the images of a step have similar aspect ratios, on all ranks.

    A random order is divided into pools of `POOL_STEPS` steps. A pool is sorted by aspect ratio and cut into steps,
    which are shuffled. So each image keeps its number of draws, and images of equal aspect ratio meet at random.

    Args:
        records: the records of the split.
        seed: seed of the order of steps.
        source: number of the source.
    """

    def __init__(self, records: Sequence[ImageRecord], *, seed: int, source: int) -> None:
        aspects = np.log([record.width / record.height for record in records])
        self.groups = np.round(aspects / ASPECT_STEP).astype(np.int64)
        self._position = (seed, source)

    def arranged(self, draws: Ints, step_size: int, epoch: int) -> Ints:
        """Return draws (N, 2) in another order, where each `step_size` = W * B consecutive ones are a step.

        If the last step is incomplete, its place among the aspect ratios of its pool is random.
        """
        seed, source = self._position
        rng = random_numbers(Stream.ASPECT, seed, epoch, source)
        pool_size = step_size * POOL_STEPS
        pools = [self._sorted(draws[begin : begin + pool_size]) for begin in range(0, len(draws), pool_size)]
        return np.concatenate([_with_shuffled_steps(pool, step_size, rng) for pool in pools])

    def _sorted(self, draws: Ints) -> Ints:
        return draws[np.argsort(self.groups[draws[:, 0]], kind="stable")]


def _with_shuffled_steps(pool: Ints, step_size: int, rng: np.random.Generator) -> Ints:
    num_complete, remainder = divmod(len(pool), step_size)
    begin = int(rng.integers(num_complete + 1)) * step_size
    complete, incomplete = np.delete(pool, slice(begin, begin + remainder), axis=0), pool[begin : begin + remainder]
    steps = complete.reshape(num_complete, step_size, 2)
    return np.concatenate([*steps[rng.permutation(num_complete)], incomplete])
