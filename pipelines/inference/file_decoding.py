"""Decode the files of many images, by default in this process; callers may pass another function."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from pipelines.base.errors import DataError
from pipelines.data.source_images import NewImageReader

DecodedFile = tuple[np.ndarray, list[str]] | DataError
"""Pixels (H, W, 3) uint8 and warnings about a file, or the error of a file that cannot be read."""

DecodeFiles = Callable[[Iterable[Path], NewImageReader], Iterator[DecodedFile]]
"""Yields the image of each file, in order."""


def decode_here(files: Iterable[Path], reader: NewImageReader) -> Iterator[DecodedFile]:
    """Decode files in this process, one after the other, without a limit of time: only files of a trusted source."""
    for file in files:
        try:
            yield reader.read_pixels(file)
        except DataError as error:
            yield error
