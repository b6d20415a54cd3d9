"""Read images as the sources of a document declare them. Torch-free."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image

from pipelines.base.errors import DataError, FieldProblem
from pipelines.base.printable import printable
from pipelines.data.decoding.opening import FORMATS, MAX_PIXELS
from pipelines.data.decoding.orientation import Exif
from pipelines.data.decoding.storage import storage_of
from pipelines.data.decoding.value_range import ValueRange, shown_range
from pipelines.data.images import read_image, read_pixels, read_with_warnings, to_rgb

if TYPE_CHECKING:
    # The processes that decode uploaded images start in half of the time without pydantic.
    from pipelines.spec.data import DataSpec, SourceSpec


def read_source_image(path: Path, name: str, source: "SourceSpec") -> Image.Image:
    """Return an image of the source called `name`, see `pipelines.data.images.read_image`."""
    return read_image(path, source.exif, value_range=source.value_range, source=name)


def expected_exif(data: "DataSpec") -> Exif:
    """Return how the EXIF orientation of a new image is treated: like that of the data sources, or, where these differ,
    applied, so that the image is upright."""
    settings = {source.exif for source in data.sources.values()}
    return settings.pop() if len(settings) == 1 else "apply"


def read_source_pixels(path: Path, name: str, source: "SourceSpec") -> np.ndarray:
    """Return the pixels (H, W, 3) uint8 of the same image, which is faster for JPEG files of the usual kinds."""
    return read_pixels(path, source.exif, value_range=source.value_range, source=name)[0]


class NewImageReader:
    """Reads images that belong to no source as a model expects them, by the sources that it was trained on.

    Args:
        data: the document's.
    """

    def __init__(self, data: "DataSpec") -> None:
        self.exif = expected_exif(data)
        self._ranges: dict[str, ValueRange] = {
            name: source.value_range for name, source in data.sources.items() if source.value_range
        }
        self._differ = len(set(self._ranges.values())) > 1

    def read(self, image: Path | BinaryIO, max_pixels: int = MAX_PIXELS) -> tuple[Image.Image, list[str]]:
        """Return the image of a file, and warnings about the file.

        Raises:
            DataError: see `pipelines.data.images.read_image`; or the image has more than 8 bits, and the sources have
                different ranges of values.
        """
        return read_with_warnings(image, self.exif, max_pixels, **self._range_for(image))

    def read_pixels(self, image: Path | BinaryIO, max_pixels: int = MAX_PIXELS) -> tuple[np.ndarray, list[str]]:
        """Return the pixels (H, W, 3) uint8 of the image of a file, and warnings; raises DataError as `read`."""
        return read_pixels(image, self.exif, max_pixels, **self._range_for(image))

    def convert(self, image: Image.Image) -> Image.Image:
        """Return an image that is already decoded, and upright if it has to be; raises DataError as `read`."""
        if self._differ and storage_of(image) is not None:
            raise self._unclear_range("image")
        return to_rgb(image, next(iter(self._ranges.values()), None))

    def _range_for(self, image: Path | BinaryIO) -> dict[str, Any]:
        """Return the range of values to read an image with, and the source that declares it."""
        if self._differ:
            self._require_8_bits(image)
        source, value_range = next(iter(self._ranges.items()), ("<name>", None))
        return {"value_range": value_range, "source": source}

    def _require_8_bits(self, image: Path | BinaryIO) -> None:
        storage = None
        with suppress(Exception), Image.open(image, formats=FORMATS) as opened:  # `read_image` reports what is wrong
            storage = storage_of(opened)
        if not isinstance(image, Path):
            image.seek(0)
        if storage is not None:
            raise self._unclear_range(printable(str(image)) if isinstance(image, Path) else "image")

    def _unclear_range(self, name: str) -> DataError:
        ranges = ", ".join(f"{source}: {shown_range(span)}" for source, span in sorted(self._ranges.items()))
        return DataError(
            FieldProblem(
                name,
                "has more than 8 bits per channel, and the sources of the model have different values of value_range "
                f"({ranges}); convert the image to 8 bits",
            )
        )
