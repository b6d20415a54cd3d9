"""The contract of sources: the batches of an epoch for all ranks.

Legend: N images, W ranks, B images per step and rank. The last axis of draws has two values: an image's position in
the split, and the number of its earlier draws in the epoch.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class Source(ABC):
    """Draws batches for all ranks.

    Attributes:
        num_images: number of images that can be drawn.
        num_steps: number of steps in which every image has its turn.
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
        """Return an epoch of `num_steps` full batches (W, B, 2) that continues where the previous epoch ended, provided
        that all epochs have as many steps."""


def ceil_div(a: int, b: int) -> int:
    """Return a / b, rounded up."""
    return -(-a // b)


def padded(values: Ints, divisor: int) -> Ints:
    """Return the values (N, ...), padded by wrap-around to a multiple of `divisor`."""
    return np.resize(values, (ceil_div(len(values), divisor) * divisor, *values.shape[1:]))


def counted(images: Ints) -> Ints:
    """Return draws (N, 2) of images (N,): each image with the number of its earlier occurrences."""
    order = np.argsort(images, kind="stable")
    in_order = images[order]
    before = np.empty_like(images)
    before[order] = np.arange(len(images)) - np.searchsorted(in_order, in_order)
    return np.stack([images, before], axis=1)


def split_over_ranks(draws: Ints, batch_size: int, world_size: int, min_batch: int = 1) -> list[Ints]:
    """Return draws (N, 2) in batches (W, B, 2), where rank r takes every W-th draw from the r-th on.

    See `batch_starts` for `min_batch`.
    """
    by_rank = padded(draws, world_size).reshape(-1, world_size, 2).swapaxes(0, 1)
    return np.split(by_rank, batch_starts(by_rank.shape[1], batch_size, min_batch)[1:], axis=1)


def batch_starts(num_images: int, batch_size: int, min_batch: int = 1) -> list[int]:
    """Return the position of the first image of each batch of a rank.

    If the last batch would have fewer than `min_batch` images, they belong to the batch before it, if there is one.
    """
    starts = list(range(0, num_images, batch_size))
    is_too_small = len(starts) > 1 and num_images - starts[-1] < min_batch
    return starts[:-1] if is_too_small else starts
