"""A source that draws identities, for embeddings.

Legend: N images, W ranks, B images per step and rank.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import chain

import numpy as np

from pipelines.data.loading.sample import Stream, random_numbers
from pipelines.data.loading.sampling.sources import Ints, Source, ceil_div, counted, padded


class PKSource(Source):
    """Draws P identities with K images each for every rank; B is P * K.

    A round draws every identity once and continues across epochs; its last step is filled up with identities of the
    same round. The identities of one step differ over all ranks if there are at least W * P, otherwise within each
    rank. The images of an identity take turns in the same way, K at a time; if there are fewer, they are repeated.

    Args:
        images: by identity, the positions in the split of the images that show it; an image may show several.

    Raises:
        ValueError: fewer than `p` identities.
    """

    def __init__(
        self, images: Mapping[str, Sequence[int]], p: int, k: int, *, seed: int, source: int, world_size: int = 1
    ) -> None:
        if len(images) < p:
            raise ValueError(f"got {len(images)} identities; a batch needs p = {p} different ones")
        self.images = [np.asarray(of_identity, dtype=np.int64) for _, of_identity in sorted(images.items())]
        self.p = p
        self.k = k
        self.world_size = world_size
        self.batch_size = p * k
        self.num_images = len(set(chain.from_iterable(images.values())))
        self.num_steps = ceil_div(self.num_images, self.batch_size * world_size)
        self._position = (seed, source)
        self._steps_per_round = ceil_div(len(images), p * world_size)
        self._draws_per_round = self._steps_per_round * p * world_size // len(images)

    def once(self, epoch: int) -> list[Ints]:
        """Return the batches (W, B, 2) of an epoch, with at least `num_images` draws."""
        return self.stream(epoch, self.num_steps)

    def stream(self, epoch: int, num_steps: int) -> list[Ints]:
        """Return `num_steps` batches (W, B, 2); the K images of an identity follow each other."""
        rows = cache(self._rows)
        drawn = []
        for number, identity, times_before in self._identities(epoch * num_steps, num_steps):
            # A draw that fills up the round takes the first images of the next round, so that no turn is skipped.
            turn = number * self._draws_per_round + times_before
            shuffle, row = divmod(turn, ceil_div(len(self.images[identity]), self.k))
            drawn.append(rows(identity, shuffle)[row])
        return list(counted(np.concatenate(drawn)).reshape(num_steps, self.world_size, self.batch_size, 2))

    def _rows(self, identity: int, number: int) -> Ints:
        """Return all images of an identity in a random order, in rows of K."""
        seed, source = self._position
        rng = random_numbers(Stream.IDENTITY_IMAGES, seed, source, identity, number)
        return padded(rng.permutation(self.images[identity]), self.k).reshape(-1, self.k)

    def _identities(self, first: int, num_steps: int) -> list[tuple[int, int, int]]:
        """Return the draws (round, identity, earlier draws in the round) of steps from `first` on, W * P per step."""
        seed, source = self._position
        begin, end = first // self._steps_per_round, ceil_div(first + num_steps, self._steps_per_round)
        draws: list[tuple[int, int, int]] = []
        for number in range(begin, end):
            order = random_numbers(Stream.IDENTITIES, seed, source, number).permutation(len(self.images))
            of_round = counted(padded(order, self.world_size * self.p)).tolist()
            draws += [(number, identity, times_before) for identity, times_before in of_round]
        skipped = (first - begin * self._steps_per_round) * self.world_size * self.p
        return draws[skipped : skipped + num_steps * self.world_size * self.p]
