"""A source that draws identities, for embeddings.

Legend: N images, W ranks, B images a step and rank.
"""

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from pipelines.data.sample import Stream, random_numbers
from pipelines.data.sampling.sources import Ints, Source, ceil_div, counted, padded

_NONE = np.array([], dtype=np.int64)


class PKSource(Source):
    """Draws P identities with K images each for every rank; B is P * K.

    All identities have their turn in a round, which goes on from epoch to epoch; those of one step are different on all
    ranks where there are W * P, else on each rank. The last step of a round is filled with others of the round. So are
    the images of an identity: all have their turn, K at a time, before one comes again in the epoch; where there are
    fewer than K, each comes as often as the others, or once more.

    Args:
        images: by identity, the positions in the split of the images that show it; an image may show several.

    Raises:
        ValueError: fewer than `p` identities.
    """

    def __init__(
        self, images: Mapping[str, Sequence[int]], p: int, k: int, *, seed: int, source: int, world_size: int = 1
    ) -> None:
        if len(images) < p:
            raise ValueError(f"got {len(images)} identities; a batch takes p = {p} different ones")
        self.images = [np.asarray(of_identity, dtype=np.int64) for _, of_identity in sorted(images.items())]
        self.p = p
        self.k = k
        self.world_size = world_size
        self.batch_size = p * k
        self.num_images = len(set(chain.from_iterable(images.values())))
        self.num_steps = ceil_div(self.num_images, self.batch_size * world_size)
        self._position = (seed, source)

    def once(self, epoch: int) -> list[Ints]:
        """Return as many batches (W, B, 2) as all images would fill."""
        return self.stream(epoch, self.num_steps)

    def stream(self, epoch: int, num_steps: int) -> list[Ints]:
        """Return `num_steps` batches (W, B, 2); the K images of an identity follow each other."""
        seed, source = self._position
        rng = random_numbers(Stream.IDENTITY_IMAGES, seed, epoch, source)
        queues: dict[int, Ints] = {}
        drawn = []
        for identity in self._identities(epoch * num_steps, num_steps):
            if not len(queue := queues.get(identity, _NONE)):
                queue = padded(rng.permutation(self.images[identity]), self.k)
            drawn.append(queue[: self.k])
            queues[identity] = queue[self.k :]
        return list(counted(np.concatenate(drawn)).reshape(num_steps, self.world_size, self.batch_size, 2))

    def _identities(self, first: int, num_steps: int) -> list[int]:
        """Return the identities of steps from `first` on: by step, then by rank, P of them."""
        seed, source = self._position
        joint = self.world_size * self.p
        steps_a_round = ceil_div(len(self.images), joint)
        begin, end = first // steps_a_round, ceil_div(first + num_steps, steps_a_round)
        rounds = [
            padded(random_numbers(Stream.IDENTITIES, seed, number, source).permutation(len(self.images)), joint)
            for number in range(begin, end)
        ]
        skipped = (first - begin * steps_a_round) * joint
        of_steps: list[int] = np.concatenate(rounds)[skipped : skipped + num_steps * joint].tolist()
        return of_steps
