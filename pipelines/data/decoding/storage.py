"""Storage format of an opened file, and its values of more than 8 bits per channel. Torch-free."""

import io
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from pipelines.data.decoding.value_range import Storage

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_OTHER_ENDIAN = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def storage_of(image: Image.Image) -> Storage | None:
    """Return how an opened file stores values of more than 8 bits, or with a sign; None for plain 8 bits.

    Call this before the image is loaded.
    """
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    bits = first_int(tags.get(_BITS))
    is_inverted = tags.get(_PHOTOMETRIC) == 0
    if image.mode == "F":
        return Storage(32, is_float=True, is_inverted=is_inverted)
    if image.mode.startswith("I;16"):
        return Storage(bits or 16, is_inverted=is_inverted)
    if image.mode == "I":
        if image.format == "PPM":
            return Storage(16, has_own_range=True)
        return Storage(bits or 32, is_inverted=is_inverted)
    if image.mode == "L" and bits == 8 and first_int(tags.get(_SAMPLE_FORMAT)) == 2:
        return Storage(8)
    if any(";16" in _raw_mode(tile) for tile in getattr(image, "tile", ())):
        return Storage(16, is_color=True)
    return None


def gray_values(image: Image.Image, storage: Storage) -> np.ndarray:
    """Return the values (H, W) of a decoded gray image in the type that the file stores."""
    values = np.asarray(image)
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    if storage.bits == 8:
        return values.view(np.int8)
    is_unsigned = first_int(tags.get(_SAMPLE_FORMAT)) in (None, 1)
    if image.format == "TIFF" and image.mode == "I" and storage.bits == 32 and is_unsigned:
        return values.view(np.uint32)
    return values


def color_values(data: bytes, high: Image.Image) -> np.ndarray | None:
    """Return the values (H, W, C) of a file with several channels of 16 bits; None if they cannot be had.

    Pillow decodes the high byte of each value. It decodes the low byte if the other byte order is requested.

    Args:
        data: the file.
        high: the file as decoded by Pillow.
    """
    low = Image.open(io.BytesIO(data), formats=[high.format or ""])
    raw_modes = {_raw_mode(tile) for tile in low.tile}
    if raw_modes == {"LA;16B"}:
        # Gray with alpha has no other byte order. Its four bytes are read as four channels.
        _replace_raw_mode(low, "RGBA")
        low.load()
        bytes_hwc = np.asarray(low).astype(np.uint16)
        gray, alpha = (bytes_hwc[..., i : i + 1] * 256 + bytes_hwc[..., i + 1 : i + 2] for i in (0, 2))
        return np.concatenate([gray, gray, gray, alpha], axis=2)
    raw_mode = raw_modes.pop() if len(raw_modes) == 1 else ""
    if raw_mode[:-1] not in ("RGB;16", "RGBA;16", "RGBX;16"):
        return None
    _replace_raw_mode(low, raw_mode[:-1] + _OTHER_ENDIAN[raw_mode[-1]])
    low.getexif().clear()  # see `orientation.load_as_stored`
    low.load()
    low_bytes = np.asarray(low.copy()).astype(np.uint16)
    return np.asarray(high).astype(np.uint16) * 256 + low_bytes


def first_int(value: Any) -> int | None:
    """Return the value of a TIFF tag that has one value for each channel, or one for all."""
    return int(value[0]) if isinstance(value, tuple) and value else value if isinstance(value, int) else None


def _raw_mode(tile: Any) -> str:
    arguments = tile[3]
    raw_mode = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return raw_mode if isinstance(raw_mode, str) else ""


def _replace_raw_mode(image: Any, raw_mode: str) -> None:
    image.tile = [
        tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)
        for tile in image.tile
    ]
