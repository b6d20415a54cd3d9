"""Decode JPEG files that end too early. Torch-free.

Pillow decodes them only with the global setting `ImageFile.LOAD_TRUNCATED_IMAGES`, which applies to all threads and to
all formats. All that it does for a JPEG is to end the data with an end-of-image marker, which is done here instead.
"""

import re

import numpy as np
from PIL import Image

MIN_DECODED_SHARE = 0.25
"""Share of the rows of a truncated JPEG that must be there; the missing rows at the bottom are gray."""

JPEG_FORMATS = ("JPEG", "MPO")
"""Names that Pillow gives JPEG files; MPO has several images, of which the first is read."""

_END_OF_IMAGE = b"\xff\xd9"
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xda-\xfe]")
_GRAY = (127, 128)
"""Values of all channels where no data is left: 128, or 127 in an inverted CMYK."""


def is_truncated_jpeg(image: Image.Image, error: Exception) -> bool:
    """Return whether Pillow's error says that an opened JPEG ends too early."""
    return image.format in JPEG_FORMATS and "truncated" in str(error)


def ended_jpegs(data: bytes) -> list[bytes]:
    """Return the data with an end, then, in case that it stops inside a marker segment, without that segment."""
    last_marker = max((match.start() for match in _MARKER.finditer(data)), default=0)
    return [data + _END_OF_IMAGE, data[:last_marker] + _END_OF_IMAGE]


def truncated_warning(missing_rows: int) -> str:
    """Return the warning about a truncated JPEG that was read."""
    if not missing_rows:
        return "is truncated"
    shown = "its last row is" if missing_rows == 1 else f"its last {missing_rows} rows are"
    return f"is truncated: {shown} missing and gray"


def num_missing_rows(image: Image.Image) -> int:
    """Return the number of rows at the bottom of a decoded, truncated JPEG that have no data."""
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    last = pixels[-1, -1]
    if not np.isin(last, _GRAY).all():
        return 0
    has_data = (pixels != last).any(axis=(1, 2))
    return int(image.height - np.flatnonzero(has_data).max(initial=-1) - 1)
