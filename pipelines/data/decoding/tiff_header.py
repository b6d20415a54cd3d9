"""TIFF files that Pillow does not open: the reason, or the same file without its metadata. Torch-free."""

import io
import struct

from PIL import TiffImagePlugin

from pipelines.data.decoding.storage import first_int

_COMPRESSION, _PHOTOMETRIC, _BITS, _SAMPLES, _SAMPLE_FORMAT = 259, 262, 258, 277, 339
_KINDS = {1: "integers", 2: "signed integers", 3: "floats"}
_COLORS = {0: "gray, 0 is white", 1: "gray", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "Lab"}
_PIXEL_TAGS = frozenset(
    {*range(256, 260), 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 332, 338, 339}
    | {347, *range(512, 522), *range(529, 533)}
)
"""Tags that describe how the pixels are stored, and the orientation."""


def unsupported_tiff(data: bytes) -> str | None:
    """Return what a TIFF contains that Pillow does not open, such as "5 channels of 8-bit integers"; None if its header
    is broken."""
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if 43 in data[2:4] else 8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        if tags[_COMPRESSION] not in TiffImagePlugin.COMPRESSION_INFO:
            return f"compression {tags[_COMPRESSION]}"
        bits = tags.get(_BITS, (1,))
        channels = int(tags.get(_SAMPLES, len(bits)))
        kind = _KINDS.get(first_int(tags.get(_SAMPLE_FORMAT)) or 1, "values")
        color = _COLORS.get(tags.get(_PHOTOMETRIC, 0), "unknown colors")
        order = "big-endian " if data[:2] == b"MM" and max(bits) > 8 else ""
        several = "s" if channels > 1 else ""
        return f"{channels} channel{several} of {order}{'/'.join(map(str, sorted(set(bits))))}-bit {kind} ({color})"
    except Exception:  # as in `orientation.orientation_of`
        return None


def without_metadata(data: bytes) -> bytes | None:
    """Return a TIFF with only the entries of its first directory that describe the pixels; None if it has no others.

    Pillow does not open a file with, for example, a resolution that is a text.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, start)
        entries = [data[start + 2 + 12 * i : start + 14 + 12 * i] for i in range(count)]
        kept = [entry for entry in entries if struct.unpack_from(order + "H", entry)[0] in _PIXEL_TAGS]
    except struct.error:
        return None
    if len(kept) == count:
        return None
    directory = struct.pack(order + "H", len(kept)) + b"".join(kept) + bytes(4)
    return data[:start] + directory + data[start + len(directory) :]
