"""What every source gives: the batches of an epoch, for all ranks.

Legend: N images, W ranks, B images a step and rank. Draws end with an axis of two: an image's position in the split,
and how often it was drawn before in the epoch.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class Source(ABC):
    """Draws batches for all ranks.

    Attributes:
        num_images: how many images can be drawn.
        num_steps: steps that one turn of all images takes.
        batch_size: B.
    """

    num_images: int
    num_steps: int
    batch_size: int

    @abstractmethod
    def once(self, epoch: int) -> Sequence[Ints]:
        """Return an epoch of `num_steps` batches (W, B, 2) in which every image has its turn."""

    @abstractmethod
    def stream(self, epoch: int, num_steps: int) -> Sequence[Ints]:
        """Return an epoch of `num_steps` full batches (W, B, 2), going on where the epoch before it ended if each
        has that many."""


def ceil_div(a: int, b: int) -> int:
    """Return a / b, rounded up."""
    return -(-a // b)


def padded(values: Ints, divisor: int) -> Ints:
    """Return the values (N, ...), padded by wrap-around to a multiple of `divisor`."""
    return np.resize(values, (ceil_div(len(values), divisor) * divisor, *values.shape[1:]))


def counted(images: Ints) -> Ints:
    """Return draws (N, 2) of images (N,): each with how often it is there before."""
    order = np.argsort(images, kind="stable")
    in_order = images[order]
    before = np.empty_like(images)
    before[order] = np.arange(len(images)) - np.searchsorted(in_order, in_order)
    return np.stack([images, before], axis=1)


def shared_out(draws: Ints, batch_size: int, world_size: int) -> list[Ints]:
    """Return draws (N, 2) in batches (W, B, 2), rank r taking every W-th from the r-th on; the last may be smaller."""
    by_rank = padded(draws, world_size).reshape(-1, world_size, 2).swapaxes(0, 1)
    return [by_rank[:, begin : begin + batch_size] for begin in range(0, by_rank.shape[1], batch_size)]
