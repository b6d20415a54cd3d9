"""Find near-duplicates: recompressed, resized or brighter copies of images, and neighboring frames. Torch-free."""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from pipelines.base.errors import DataError
from pipelines.data.splitting.groups import DisjointGroups

HASH_BITS = 64
DEFAULT_DISTANCE = 5
MAX_DISTANCE = 16
MIN_CORRELATION = 0.95
"""Least correlation of the thumbnails of near-duplicates; images that differ in small objects have less."""

_THUMBNAIL = 16
_MAX_PAIRS = 4_000_000
"""Pairs that are compared at a time; bounds the memory to about 100 MB."""

_POPCOUNT = np.array([bin(value).count("1") for value in range(1 << 16)], dtype=np.uint8)


def difference_hash(gray: Image.Image) -> int:
    """Return the 64 bits "a pixel is brighter than its right neighbor" of the 9 x 8 thumbnail (N. Krawetz 2013)."""
    pixels = np.asarray(gray.resize((9, 8), Image.Resampling.BILINEAR), dtype=np.int16)
    return int.from_bytes(np.packbits(pixels[:, :-1] > pixels[:, 1:]).tobytes(), "big")


def join_near_duplicates(
    groups: DisjointGroups, readers: Sequence[Callable[[], Image.Image] | None], distance: int
) -> int:
    """Join images whose hashes differ in at most `distance` bits and whose thumbnails correlate; return the number of
    images that have a near-duplicate.

    A uniform image has no near-duplicates. Rotated, mirrored and cropped copies are not found.

    Args:
        groups: numbers of images; near-duplicates are joined.
        readers: return the images in RGB; None for images that cannot be read.
        distance: 0 to `MAX_DISTANCE`.
    """
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        thumbnails = list(pool.map(_thumbnail, readers))
    numbers = np.array([number for number, found in enumerate(thumbnails) if found is not None], dtype=np.int64)
    if not len(numbers):
        return 0
    found = [thumbnail for thumbnail in thumbnails if thumbnail is not None]
    hashes = np.array([bits for bits, _ in found], dtype=np.uint64)
    pixels = np.stack([values for _, values in found])
    near = np.zeros(len(numbers), dtype=bool)
    for bucket in _buckets(hashes, distance + 1):
        for matches in _matches(hashes[bucket], pixels[bucket], distance):
            for is_match in matches[matches.sum(axis=1) > 1]:
                near[bucket[is_match]] = True
                groups.join(numbers[bucket[is_match]].tolist())
    return int(near.sum())


def _thumbnail(read: Callable[[], Image.Image] | None) -> tuple[int, np.ndarray] | None:
    """Return the hash and the standardized thumbnail; None for an unreadable or uniform image."""
    if read is None:
        return None
    try:
        gray = read().convert("L")
    except DataError:
        return None  # the data check reports it
    pixels = np.asarray(gray.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BILINEAR), dtype=np.float32).ravel()
    centered = pixels - pixels.mean()
    norm = float(np.linalg.norm(centered))
    return None if norm < _THUMBNAIL else (difference_hash(gray), centered / norm)


def _buckets(hashes: np.ndarray, num_bands: int) -> Iterator[np.ndarray]:
    """Yield positions of hashes that agree in one of the bands.

    Two hashes that differ in fewer than `num_bands` bits agree in at least one band.
    """
    edges = np.linspace(0, HASH_BITS, num_bands + 1).astype(int)
    for low, high in itertools.pairwise(edges):
        band = (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.diff(band[order], prepend=band[order[0]] + np.uint64(1)))
        for bucket in np.split(order, starts):
            if len(bucket) > 1:
                yield bucket


def _matches(hashes: np.ndarray, pixels: np.ndarray, distance: int) -> Iterator[np.ndarray]:
    """Yield rows of the matrix that says which images are near-duplicates; its diagonal is true."""
    num_rows = max(1, _MAX_PAIRS // len(hashes))
    for start in range(0, len(hashes), num_rows):
        rows = slice(start, start + num_rows)
        differing = (hashes[rows, None] ^ hashes[None]).view(np.uint16)
        distances = _POPCOUNT[differing].reshape(-1, len(hashes), 4).sum(axis=2, dtype=np.uint8)
        yield (distances <= distance) & (pixels[rows] @ pixels.T >= MIN_CORRELATION)
