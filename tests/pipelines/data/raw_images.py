"""Image files and EXIF blocks that Pillow does not write: odd tags, 16 bits per channel, unusual TIFF layouts."""

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

Entry = tuple[int, int, int, bytes]
"""Tag, type, count and value of an entry of a TIFF directory."""

ORIENTATION, X_RESOLUTION, RESOLUTION_UNIT, EXIF_OFFSET, MAKE = 0x0112, 0x011A, 0x0128, 0x8769, 0x010F
ASCII, SHORT, LONG, RATIONAL, SIGNED_RATIONAL, FLOAT = 2, 3, 4, 5, 10, 11


def orientation(value: int) -> Entry:
    return ORIENTATION, SHORT, 1, struct.pack("<H", value)


def exif_block(*entries: Entry, order: str = "<") -> bytes:
    """Return a TIFF header with one directory: the content of an EXIF block."""
    offset = 8 + 2 + 12 * len(entries) + 4
    directory, values = b"", b""
    for tag, kind, count, value in sorted(entries):
        if len(value) > 4:
            place = struct.pack(order + "I", offset + len(values))
            values += value + b"\0" * (len(value) % 2)
        else:
            place = value.ljust(4, b"\0")
        directory += struct.pack(order + "HHI", tag, kind, count) + place
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(order + "IH", 8, len(entries)) + directory + bytes(4) + values


def tiff(
    values: Any, dtype: str, *entries: Entry, order: str = "<", photometric: int = 1, sample_format: int = 1
) -> bytes:
    """Return an uncompressed TIFF of values (H, W) or (H, W, C)."""
    array = np.atleast_3d(np.asarray(values)).astype(np.dtype(dtype).newbyteorder(order))
    (height, width, channels), pixels = array.shape, array.tobytes()

    def shorts(*numbers: int) -> bytes:
        return struct.pack(f"{order}{len(numbers)}H", *numbers)

    described: list[Entry] = [
        (256, SHORT, 1, shorts(width)),
        (257, SHORT, 1, shorts(height)),
        (258, SHORT, channels, shorts(*[array.dtype.itemsize * 8] * channels)),
        (259, SHORT, 1, shorts(1)),
        (262, SHORT, 1, shorts(photometric)),
        (277, SHORT, 1, shorts(channels)),
        (278, SHORT, 1, shorts(height)),
        (279, LONG, 1, struct.pack(order + "I", len(pixels))),
        (339, SHORT, channels, shorts(*[sample_format] * channels)),
        *entries,
    ]
    offset = len(exif_block((273, LONG, 1, bytes(4)), *described, order=order))
    return exif_block((273, LONG, 1, struct.pack(order + "I", offset)), *described, order=order) + pixels


def png16(values: Any, color_type: int, transparent: Sequence[int] = ()) -> bytes:
    """Return a PNG with 16 bits per channel of values (H, W) or (H, W, C), with an optional tRNS chunk."""
    array = np.asarray(values)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, color_type, 0, 0, 0)
    chunks = [(b"IHDR", header)]
    if transparent:
        chunks.append((b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)))
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
