"""Decode undamaged JPEG files of the usual kinds into arrays. Torch-free.

Pillow decodes to four bytes per pixel, and an array takes two more copies. simplejpeg (libjpeg-turbo) decodes into the
array, with the same pixels, in about half of the time (docs/benchmarks.md).
"""

import numpy as np
import simplejpeg
from PIL import Image


def plain_jpeg_pixels(opened: Image.Image, data: bytes) -> np.ndarray | None:
    """Return the pixels (H, W, 3) uint8 in RGB of a JPEG; None if Pillow has to decode the file.

    Pillow decodes CMYK, files of several images, and files of which simplejpeg reports anything unusual, such as
    damaged or missing data, so that these are read as far as they go.

    Args:
        opened: the file as opened by Pillow, whose header decides about the size; it is not decoded.
        data: the file.
    """
    if opened.format != "JPEG" or opened.mode not in ("RGB", "L"):
        return None
    # The decoder raises an error where its header has more pixels than the buffer.
    buffer = np.empty((opened.height, opened.width, 3), dtype=np.uint8)
    try:
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, "RGB", buffer=buffer, strict=True)
    except ValueError:
        return None
    return pixels if pixels.shape == buffer.shape else None
