"""Open image files of the supported formats, without decoding them. Torch-free."""

import io
import logging
import warnings

from PIL import Image, UnidentifiedImageError

from pipelines.base.errors import DataError, FieldProblem
from pipelines.data.decoding.tiff_header import unsupported_tiff, without_metadata

MAX_PIXELS = 89_000_000
"""Images with more pixels are rejected; just below the number at which Pillow warns of decompression bombs."""

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Supported formats, without those that start other programs, such as EPS."""

SUPPORTED = "8 bits per channel (gray, RGB, with or without alpha), 16 bits, or gray of 32-bit integers or floats"
"""The layouts of pixels that are read."""

# Pillow warns of details that no user can act on, such as a broken EXIF block. What matters is reported by this module.
logging.getLogger("PIL").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", module=r"PIL\.")


class UnknownFormat(DataError):
    """The file is not an image of any of `FORMATS`."""


class TooManyPixels(DataError):
    """The image has more pixels than allowed."""


def open_image(data: bytes, name: str, max_pixels: int) -> tuple[Image.Image, bytes]:
    """Return an opened file whose pixels are not decoded yet, and the data that was opened.

    Args:
        data: the file.
        name: of the file, for messages.
        max_pixels: limit for the size in the header.

    Raises:
        TooManyPixels: the header declares more pixels.
        UnknownFormat: the format is not in `FORMATS`.
        DataError: the header is broken, or its layout of pixels is not supported.
    """
    try:
        opened = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(name, "far too many", max_pixels) from None
    except UnidentifiedImageError:
        format_name = _format_of(data)
        if format_name is None:
            known = ", ".join(FORMATS)
            raise UnknownFormat(FieldProblem(name, f"is not an image of a known format ({known})")) from None
        if format_name == "TIFF":
            if (bare := without_metadata(data)) is not None:
                return open_image(bare, name, max_pixels)
            if (layout := unsupported_tiff(data)) is not None:
                raise unsupported(name, layout) from None
        raise DataError(FieldProblem(name, "cannot be decoded (its header is broken); write the file again")) from None
    if opened.width * opened.height > max_pixels:
        raise _too_large(name, f"{opened.width} x {opened.height}", max_pixels)
    return opened, data


def _format_of(data: bytes) -> str | None:
    """Return the format in `FORMATS` whose files start like this one."""
    for name in FORMATS:
        accept = Image.OPEN[name][1]
        if accept is not None and accept(data[:16]) is True:
            return name
    return None


def unsupported(name: str, what: str) -> DataError:
    """Return the error for a file that is intact, but has a layout that is not read."""
    return DataError(FieldProblem(name, f"is not supported ({what}); write it with {SUPPORTED}"))


def _too_large(name: str, size: str, max_pixels: int) -> TooManyPixels:
    return TooManyPixels(FieldProblem(name, f"has {size} pixels; at most {max_pixels:,} are read: cut it into tiles"))
