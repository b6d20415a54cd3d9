"""Read image files of all supported formats as 8-bit RGB. Torch-free."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipelines.base.errors import DataError, FieldProblem

Exif = Literal["ignore", "apply"]

MAX_PIXELS = 89_000_000
"""Images with more pixels are rejected; just below the number at which Pillow warns of decompression bombs."""

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Supported formats, without those that start other programs, such as EPS."""

_ORIENTATION_TAG = 0x0112
_SIDEWAYS = frozenset({5, 6, 7, 8})
_ALPHA_MODES = frozenset({"RGBA", "LA", "PA", "La", "RGBa"})
_PLAIN_MODES = _ALPHA_MODES | {"1", "L", "P", "RGB", "CMYK", "YCbCr"}


@dataclass(frozen=True)
class ImageFacts:
    """Size in pixels (after the EXIF orientation, if it is applied), and the SHA-256 of the file's bytes."""

    height: int
    width: int
    sha256: str


class UnknownFormat(DataError):
    """The file is not an image of any of `FORMATS`."""


class TooManyPixels(DataError):
    """The image has more pixels than allowed."""


def read_image(image: Path | BinaryIO, exif: Exif, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Return the image in mode RGB with 8 bits per channel; `exif` "apply" rotates it by its EXIF orientation.

    Gray becomes three equal channels, palettes are resolved, and transparent images are drawn over white, as viewers
    show them. 16-bit values are divided by 256 and never stretched by content, so that equal values stay equal in all
    images. Float values have the range 0..1 if their maximum is at most 1, else 0..255, else 0..65535. Only the first
    frame is read. CMYK is converted without color profiles.

    Raises:
        TooManyPixels: the header declares more than `max_pixels` (at most `MAX_PIXELS`); nothing is decoded.
        UnknownFormat: the format is not in `FORMATS`.
        DataError: the file is missing, truncated or unreadable, or the range of its values is unclear.
    """
    name = str(image) if isinstance(image, Path) else str(getattr(image, "name", "image"))
    try:
        with _open(image, name, min(max_pixels, MAX_PIXELS)) as opened:
            opened.load()
            upright = ImageOps.exif_transpose(opened) if exif == "apply" else opened
            return _to_rgb(upright, name)
    except DataError:
        raise
    except Exception as error:  # Pillow's plugins raise a dozen types on broken bytes
        raise _unreadable(name, error) from None


def examine_image(path: Path, exif: Exif) -> ImageFacts:
    """Decode the file once, without keeping its pixels, and return its facts.

    JPEG is decoded at an eighth of its size: every byte is still parsed, in about a third of the time.

    Raises:
        DataError: as `read_image`.
    """
    try:
        data = path.read_bytes()
        with _open(io.BytesIO(data), str(path), MAX_PIXELS) as opened:
            width, height = opened.size
            if exif == "apply" and opened.getexif().get(_ORIENTATION_TAG) in _SIDEWAYS:
                width, height = height, width
            opened.draft("RGB", (1, 1))
            opened.load()
            if opened.mode not in _PLAIN_MODES:
                _to_rgb(opened, str(path))
        return ImageFacts(height, width, hashlib.sha256(data).hexdigest())
    except DataError:
        raise
    except Exception as error:  # as in read_image
        raise _unreadable(str(path), error) from None


def _open(image: Path | BinaryIO, name: str, max_pixels: int) -> Image.Image:
    try:
        opened = Image.open(image, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(name, "far too many", max_pixels) from None
    except UnidentifiedImageError:
        if _starts_as_image(image):
            raise DataError(
                FieldProblem(name, "cannot be decoded (its header is broken); write the file again")
            ) from None
        raise UnknownFormat(FieldProblem(name, f"is not an image of a known format ({', '.join(FORMATS)})")) from None
    if opened.width * opened.height > max_pixels:
        raise _too_large(name, f"{opened.width} x {opened.height}", max_pixels)
    return opened


def _starts_as_image(image: Path | BinaryIO) -> bool:
    """Return whether the first bytes are those of a format in `FORMATS`."""
    if isinstance(image, Path):
        with image.open("rb") as file:
            return _starts_as_image(file)
    image.seek(0)
    start = image.read(16)
    accepts = (Image.OPEN[name][1] for name in FORMATS)
    return any(accept is not None and accept(start) is True for accept in accepts)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", with_alpha.size, "white")
        return Image.alpha_composite(white, with_alpha).convert("RGB")
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_to_8_bits(np.asarray(image), name)).convert("RGB")
    return image.copy() if image.mode == "RGB" else image.convert("RGB")


def _to_8_bits(values_HW: np.ndarray, name: str) -> np.ndarray:
    """Return gray values of more than 8 bits as uint8."""
    low, high = values_HW.min(), values_HW.max()
    if not (low >= 0 and high <= 65535):
        raise DataError(
            FieldProblem(
                name, f"has values from {low} to {high}; write gray values as 8 or 16 bits, or as floats in 0..1"
            )
        )
    if not np.issubdtype(values_HW.dtype, np.floating):
        return (values_HW.astype(np.int64) >> 8).astype(np.uint8)
    if high <= 1:
        return np.round(values_HW * 255).astype(np.uint8)
    if high <= 255:
        return np.round(values_HW).astype(np.uint8)
    return (values_HW / 256).astype(np.uint8)


def _unreadable(name: str, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(FieldProblem(name, "the file is missing"))
    return DataError(FieldProblem(name, f"cannot be decoded ({error or type(error).__name__}); write the file again"))


def _too_large(name: str, size: str, max_pixels: int) -> TooManyPixels:
    return TooManyPixels(FieldProblem(name, f"has {size} pixels; at most {max_pixels:,} are read: cut it into tiles"))
