"""A small JPEG file that takes long to decode."""

import io

from PIL import Image

_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"


def slow_jpeg(side: int, num_scans: int) -> bytes:
    """Return a progressive gray JPEG whose last scan, which changes nothing, is repeated.

    A scan takes about 0.7 ns per pixel and some dozen bytes of the file: 500 scans of 7000 x 7000 pixels take 17 s.
    """
    file = io.BytesIO()
    Image.new("L", (side, side), 128).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    assert data.endswith(_END_OF_IMAGE)
    start = data.rindex(_START_OF_SCAN)
    return data[:start] + data[start:-2] * num_scans + _END_OF_IMAGE
