"""The orientation of an image file: the only EXIF tag that is used. Torch-free."""

from typing import Literal

import numpy as np
from PIL import Image

Exif = Literal["ignore", "apply"]

_ORIENTATION_TAG = 0x0112
_SIDEWAYS = frozenset({5, 6, 7, 8})
_MIRRORED_COLUMNS, _MIRRORED_ROWS = frozenset({2, 3, 6, 7}), frozenset({3, 4, 7, 8})
"""Orientations whose columns, or rows, are mirrored after rows and columns are swapped (where they are)."""

_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened image, 1 to 8; 1 if it has none, or none that can be read.

    A PNG may have its EXIF block after the pixels, so call this after loading it, but before loading a TIFF.
    """
    try:
        tag = image.getexif().get(_ORIENTATION_TAG)
        return int(tag) if tag in _TRANSPOSITIONS else 1
    except Exception:  # Pillow's parser raises a dozen types on a broken block; the image is still valid
        return 1


def load_as_stored(image: Image.Image) -> tuple[Image.Image, int]:
    """Decode an opened image; return it as it is stored, and its orientation.

    Pillow rotates a TIFF by its orientation when it decodes it (and reports its size accordingly), but no other format.
    """
    if image.format != "TIFF":
        image.load()
        return image, orientation_of(image)
    orientation = orientation_of(image)
    # Pillow takes the orientation from this mapping when it has decoded the pixels, and reads further blocks that the
    # mapping refers to, which may be broken.
    image.getexif().clear()
    image.load()
    # Only the size of the image object is that of the rotated image; a copy has the size of the pixels.
    return (image.copy() if orientation in _SIDEWAYS else image), orientation


def upright(image: Image.Image, orientation: int, exif: Exif) -> Image.Image:
    """Return an image, decoded as it is stored, rotated by its orientation if `exif` is "apply"."""
    transposition = _TRANSPOSITIONS.get(orientation) if exif == "apply" else None
    return image if transposition is None else image.transpose(transposition)


def upright_pixels(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels (H, W, C), as they are stored, rotated by their orientation."""
    if orientation in _SIDEWAYS:
        pixels = pixels.swapaxes(0, 1)
    if orientation in _MIRRORED_COLUMNS:
        pixels = pixels[:, ::-1]
    if orientation in _MIRRORED_ROWS:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def upright_size(size: tuple[int, int], orientation: int, exif: Exif) -> tuple[int, int]:
    """Return the (width, height) that `upright` gives an image of the stored (width, height)."""
    return (size[1], size[0]) if exif == "apply" and orientation in _SIDEWAYS else size
