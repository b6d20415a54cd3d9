"""Read image files of all supported formats as 8-bit RGB. Torch-free."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from pipelines.base.errors import DataError, FieldProblem
from pipelines.base.printable import printable
from pipelines.data.decoding.opening import MAX_PIXELS as MAX_PIXELS
from pipelines.data.decoding.opening import open_image, unsupported
from pipelines.data.decoding.orientation import Exif as Exif
from pipelines.data.decoding.orientation import load_as_stored, orientation_of, upright, upright_pixels, upright_size
from pipelines.data.decoding.plain_jpeg import plain_jpeg_pixels
from pipelines.data.decoding.storage import color_values, gray_values, storage_of
from pipelines.data.decoding.truncated_jpeg import (
    JPEG_FORMATS,
    MIN_DECODED_SHARE,
    ended_jpegs,
    is_truncated_jpeg,
    num_missing_rows,
    truncated_warning,
)
from pipelines.data.decoding.value_range import Storage, StoredValues, ValueRange, out_of_range, to_8_bits, value_span

_ALPHA_MODES = frozenset({"RGBA", "LA", "PA", "La", "RGBa"})
_READABLE_MODES = _ALPHA_MODES | {"1", "L", "P", "RGB", "CMYK", "YCbCr", "F", "I", "I;16", "I;16B", "I;16L", "I;16N"}


@dataclass(frozen=True)
class ImageFacts:
    """Facts about an image file.

    Attributes:
        height: in pixels, after the EXIF orientation if it is applied.
        width: likewise.
        sha256: of the file's bytes.
        values: the values of a file with more than 8 bits per channel; None for plain 8 bits.
        missing_rows: None for a complete file; of a truncated JPEG, the number of rows that have no data.
    """

    height: int
    width: int
    sha256: str
    values: StoredValues | None = None
    missing_rows: int | None = None


@dataclass(frozen=True)
class _Decoded:
    """A decoded file: the image as it is stored, its orientation, and how its values are stored.

    `stored_size` is the (width, height) of the file; that of a draft of a JPEG is smaller.
    """

    image: Image.Image
    data: bytes
    stored_size: tuple[int, int]
    orientation: int = 1
    storage: Storage | None = None
    missing_rows: int | None = None


def read_image(
    image: Path | BinaryIO,
    exif: Exif,
    max_pixels: int = MAX_PIXELS,
    *,
    value_range: ValueRange | None = None,
    source: str = "<name>",
) -> Image.Image:
    """Return the image in mode RGB with 8 bits per channel; `exif` "apply" rotates it by its EXIF orientation.

    Gray becomes three equal channels, palettes are resolved, and transparent images are drawn over white, as viewers
    show them. Values of more than 8 bits are scaled from `value_range`, never by the content of the image, so that
    equal values stay equal in all images. Only the first frame is read. CMYK is converted without color profiles. A
    JPEG that ends too early is read if at least a quarter of its rows is there; the others are gray.

    Args:
        image: a file.
        exif: whether the EXIF orientation is applied.
        max_pixels: limit, at most `MAX_PIXELS`.
        value_range: the values of black and white in files of more than 8 bits per channel; by default 0 to 1 of
            floats and 0 to 65535 of integers (with fewer than 16 bits, their largest value).
        source: name of the source in the document, for messages.

    Raises:
        TooManyPixels: the header declares more than `max_pixels`; nothing is decoded.
        UnknownFormat: the format is not in `FORMATS`.
        DataError: the file is missing, truncated, unreadable or not supported, or has values out of their range.
    """
    return read_with_warnings(image, exif, max_pixels, value_range=value_range, source=source)[0]


def read_with_warnings(
    image: Path | BinaryIO, exif: Exif, max_pixels: int, *, value_range: ValueRange | None, source: str
) -> tuple[Image.Image, list[str]]:
    """Return the image as `read_image` does, and warnings about its file."""
    name = _name_of(image)
    with _explained_errors(name):
        opened, data = open_image(_bytes_of(image), name, min(max_pixels, MAX_PIXELS))
        return _read_opened(opened, data, exif, value_range, name, source)


def read_pixels(
    image: Path | BinaryIO,
    exif: Exif,
    max_pixels: int = MAX_PIXELS,
    *,
    value_range: ValueRange | None = None,
    source: str = "<name>",
) -> tuple[np.ndarray, list[str]]:
    """Return the pixels (H, W, 3) uint8 of the image that `read_image` returns, see there, and warnings about its file.

    JPEG files of the usual kinds take about two thirds of the time.
    """
    name = _name_of(image)
    with _explained_errors(name):
        opened, data = open_image(_bytes_of(image), name, min(max_pixels, MAX_PIXELS))
        pixels = plain_jpeg_pixels(opened, data)
        if pixels is None:
            read, warnings = _read_opened(opened, data, exif, value_range, name, source)
            return np.array(read), warnings
        return (pixels if exif == "ignore" else upright_pixels(pixels, orientation_of(opened))), []


def file_bytes(path: Path) -> bytes:
    """Return the content of a file; raises DataError as `read_image` if it cannot be opened."""
    with _explained_errors(printable(str(path))):
        return path.read_bytes()


def examine_image(path: Path, exif: Exif) -> ImageFacts:
    """Decode the file once, without keeping its pixels, and return its facts.

    JPEG is decoded at an eighth of its size: every byte is still parsed, in about a third of the time. Whether the
    values fit their range is not examined, because the range is a setting of the source and not a fact about the file.

    Raises:
        DataError: as `read_image`, except for values that are out of their range, if they are finite.
    """
    name = printable(str(path))
    with _explained_errors(name):
        data = path.read_bytes()
        decoded = _decode(*open_image(data, name, MAX_PIXELS), name, is_draft=True)
        width, height = upright_size(decoded.stored_size, decoded.orientation, exif)
        values = _value_span(decoded, name)
        return ImageFacts(height, width, hashlib.sha256(data).hexdigest(), values, decoded.missing_rows)


def to_rgb(image: Image.Image, value_range: ValueRange | None = None) -> Image.Image:
    """Return an image that is already decoded as `read_image` returns it.

    Raises:
        DataError: its mode is not supported, or its values are out of their range.
    """
    return _to_rgb(_Decoded(image, b"", image.size, storage=storage_of(image)), value_range, "image", "value_range")


@contextmanager
def _explained_errors(name: str) -> Iterator[None]:
    """Raise DataError for any error while a file is read."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # Pillow's plugins raise a dozen types on broken bytes
        raise _unreadable(name, error) from None


def _name_of(image: Path | BinaryIO) -> str:
    return printable(str(image)) if isinstance(image, Path) else str(getattr(image, "name", "image"))


def _bytes_of(image: Path | BinaryIO) -> bytes:
    return image.read_bytes() if isinstance(image, Path) else image.read()


def _read_opened(
    opened: Image.Image, data: bytes, exif: Exif, value_range: ValueRange | None, name: str, source: str
) -> tuple[Image.Image, list[str]]:
    """Return an opened image as `read_image` does, and warnings about its file."""
    decoded = _decode(opened, data, name)
    rgb = _to_rgb(decoded, value_range, name, f"data.sources.{source}.value_range")
    missing = decoded.missing_rows
    warnings = [] if missing is None else [truncated_warning(missing)]
    return upright(rgb, decoded.orientation, exif), warnings


def _decode(opened: Image.Image, data: bytes, name: str, *, is_draft: bool = False) -> _Decoded:
    with opened:
        storage = storage_of(opened)
        if opened.mode not in _READABLE_MODES:
            raise unsupported(name, f"color mode {opened.mode}")
        header_size = opened.size
        if is_draft:
            opened.draft("RGB", (1, 1))
        try:
            stored, orientation = load_as_stored(opened)
        except OSError as error:
            if not is_truncated_jpeg(opened, error):
                raise
            return _decode_truncated(data, name, error)
        size = header_size if opened.format in JPEG_FORMATS else stored.size
        return _Decoded(stored, data, size, orientation, storage)


def _decode_truncated(data: bytes, name: str, error: OSError) -> _Decoded:
    """Return what a truncated JPEG has, always decoded in full, so that the check and the reading decide alike."""
    for ended in ended_jpegs(data):
        opened, _ = open_image(ended, name, MAX_PIXELS)
        try:
            stored, orientation = load_as_stored(opened)
        except OSError:
            continue
        missing = num_missing_rows(stored)
        if missing > (1 - MIN_DECODED_SHARE) * stored.height:
            share = f"{stored.height - missing} of its {stored.height} rows"
            raise DataError(
                FieldProblem(name, f"is truncated, and only {share} can be decoded; get a complete copy of the file")
            )
        return _Decoded(stored, data, stored.size, orientation, missing_rows=missing)
    raise error


def _value_span(decoded: _Decoded, name: str) -> StoredValues | None:
    """Return the values of a file with more than 8 bits per channel; raise DataError if they are not finite."""
    image, storage = decoded.image, decoded.storage
    if storage is None:
        return None
    if not storage.is_color:
        span = value_span(gray_values(image, storage), storage)
        if not np.isfinite([span.low, span.high]).all():
            raise DataError(FieldProblem(name, out_of_range(span, None, "")))
        return span
    values = color_values(decoded.data, image)
    if values is None:
        # Of channels that are not read in full, the high bytes bound the values.
        high_bytes = np.asarray(image)[..., :3].astype(np.int64)
        return StoredValues(storage, int(high_bytes.min()) * 256, int(high_bytes.max()) * 256 + 255)
    return value_span(values[..., :3], storage)


def _to_rgb(decoded: _Decoded, value_range: ValueRange | None, name: str, field: str) -> Image.Image:
    image, storage = decoded.image, decoded.storage
    key = image.info.get("transparency")
    if storage is not None and not storage.is_color:
        values = gray_values(image, storage)
        pixels = to_8_bits(values, storage, value_range, name, field)
        if isinstance(key, int):
            pixels = np.where(values == key, np.uint8(255), pixels)
        return Image.fromarray(pixels).convert("RGB")
    if storage is not None and (value_range is not None or key is not None):
        return _color_to_rgb(decoded, storage, value_range, name, field)
    if image.mode in _ALPHA_MODES or key is not None:
        return _over_white(image)
    return image.copy() if image.mode == "RGB" else image.convert("RGB")


def _color_to_rgb(
    decoded: _Decoded, storage: Storage, value_range: ValueRange | None, name: str, field: str
) -> Image.Image:
    """Return an image with several channels of 16 bits, read in full."""
    values = color_values(decoded.data, decoded.image)
    if values is None:
        raise unsupported(name, f"16-bit {decoded.image.mode} with {field}")
    colors = to_8_bits(values[..., :3], storage, value_range, name, field)
    key = decoded.image.info.get("transparency")
    if key is not None:
        colors[(values[..., :3] == key).all(axis=2)] = 255
    if values.shape[2] == 3:
        return Image.fromarray(colors)
    return _over_white(Image.fromarray(np.dstack([colors, (values[..., 3] >> 8).astype(np.uint8)])))


def _over_white(image: Image.Image) -> Image.Image:
    with_alpha = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    white = Image.new("RGBA", with_alpha.size, "white")
    return Image.alpha_composite(white, with_alpha).convert("RGB")


def _unreadable(name: str, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(FieldProblem(name, "the file is missing"))
    if isinstance(error, IsADirectoryError):
        return DataError(FieldProblem(name, "is a folder, not an image"))
    if isinstance(error, MemoryError):
        return DataError(FieldProblem(name, "needs more memory than is available; make it smaller"))
    if isinstance(error, OSError) and error.errno is not None:
        return DataError(FieldProblem(name, f"cannot be opened ({error.strerror})"))
    if "support" in str(error).lower():
        return unsupported(name, str(error))
    return DataError(FieldProblem(name, f"cannot be decoded ({error or type(error).__name__}); write the file again"))
