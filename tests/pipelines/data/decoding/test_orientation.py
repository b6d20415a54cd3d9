"""Check and reading agree on size and orientation in every format, and nothing else in an EXIF block matters."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.data.images import examine_image, read_image
from tests.pipelines.data.raw_images import (
    ASCII,
    EXIF_OFFSET,
    FLOAT,
    LONG,
    MAKE,
    ORIENTATION,
    RESOLUTION_UNIT,
    SHORT,
    SIGNED_RATIONAL,
    X_RESOLUTION,
    exif_block,
    orientation,
    tiff,
)

# Pillow reports the odd entries.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

STORED = np.zeros((24, 40, 3), np.uint8)
STORED[:8, :8, 0] = 255
"""A red square at the top left of a black image of 40 x 24."""

UPRIGHT_CORNERS = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
"""The corner (y, x) of the square in the upright image, by orientation."""

ODD_BLOCKS: dict[str, tuple[bytes, bool]] = {
    "unit is a text": (exif_block(orientation(6), (RESOLUTION_UNIT, ASCII, 5, b"inch\0")), True),
    "resolution is a text": (
        exif_block(orientation(6), (X_RESOLUTION, ASCII, 5, b"72dp\0"), (RESOLUTION_UNIT, SHORT, 1, b"\3\0")),
        True,
    ),
    "resolution is -1/0": (
        exif_block(orientation(6), (X_RESOLUTION, SIGNED_RATIONAL, 1, struct.pack("<ii", -1, 0))),
        True,
    ),
    "resolution is NaN": (exif_block(orientation(6), (X_RESOLUTION, FLOAT, 1, struct.pack("<f", np.nan))), True),
    "directory is outside": (exif_block(orientation(6), (EXIF_OFFSET, LONG, 1, struct.pack("<I", 10**9))), True),
    "directory is a text": (exif_block(orientation(6), (EXIF_OFFSET, ASCII, 5, b"abcd\0")), True),
    "value is outside": (exif_block(orientation(6), (MAKE, ASCII, 500, struct.pack("<I", 2**32 - 256))), True),
    "unknown type": (exif_block(orientation(6), (MAKE, 99, 3, b"abc")), True),
    "orientation of 4 bytes": (exif_block((ORIENTATION, LONG, 1, struct.pack("<I", 6))), True),
    "orientation is a text": (exif_block((ORIENTATION, ASCII, 2, b"6\0")), False),
    "orientation is 9": (exif_block(orientation(9)), False),
    "orientation is NaN": (exif_block((ORIENTATION, FLOAT, 1, struct.pack("<f", np.nan))), False),
    "orientation is -1/0": (exif_block((ORIENTATION, SIGNED_RATIONAL, 1, struct.pack("<ii", -1, 0))), False),
    "garbage": (b"\x93\x01garbage" * 9, False),
    "header alone": (b"II*\0", False),
    "directory is missing": (b"II*\0\x08\0\0\0", False),
    "directory is far": (b"II*\0\xff\xff\xff\x7f", False),
    "truncated": (exif_block(orientation(6), (RESOLUTION_UNIT, ASCII, 500, b"x" * 500))[:30], True),
}
"""EXIF blocks, and whether an orientation of 6 can be read from them."""


def check(path: Path, exif: Any, corner: tuple[int, int], size: tuple[int, int]) -> None:
    facts, image = examine_image(path, exif), read_image(path, exif)
    assert image.size == (facts.width, facts.height) == size
    red, others = np.asarray(image)[..., 0].astype(int), np.asarray(image)[..., 1:]
    y, x = (side + 3 if side == 0 else side - 3 for side in corner)
    assert (red[y, x] > 200, others[y, x].max() < 60, red.mean() < 60) == (True, True, True)


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("jpg", {"quality": 95}),
        ("png", {}),
        ("webp", {"lossless": True}),
        ("tif", {}),
        ("tif", {"compression": "tiff_lzw"}),
        ("tif", {"save_all": True, "append_images": [Image.new("RGB", (5, 7))]}),
    ],
)
def test_orientation_is_applied_once_or_not_at_all(tmp_path: Path, suffix: str, options: Any, value: int) -> None:
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[ORIENTATION] = value
    Image.fromarray(STORED).save(path, exif=exif, **options)
    check(path, "ignore", (0, 0), (40, 24))
    check(path, "apply", UPRIGHT_CORNERS[value], (24, 40) if value > 4 else (40, 24))


@pytest.mark.parametrize("name", ODD_BLOCKS)
def test_only_the_orientation_of_an_odd_exif_block_matters(tmp_path: Path, name: str) -> None:
    block, has_orientation = ODD_BLOCKS[name]
    for suffix in ("jpg", "png", "webp"):
        path = tmp_path / f"a.{suffix}"
        written = b"Exif\0\0" + block if suffix == "jpg" else block
        Image.fromarray(STORED).save(path, exif=written, **({"lossless": True} if suffix == "webp" else {}))
        check(path, "ignore", (0, 0), (40, 24))
        check(path, "apply", (0, -1) if has_orientation else (0, 0), (24, 40) if has_orientation else (40, 24))


@pytest.mark.parametrize(
    "entries",
    [
        [(RESOLUTION_UNIT, ASCII, 5, b"inch\0")],
        [(X_RESOLUTION, ASCII, 5, b"72dp\0"), (RESOLUTION_UNIT, SHORT, 1, b"\3\0")],
        [(EXIF_OFFSET, LONG, 1, struct.pack("<I", 10**9))],
        [(EXIF_OFFSET, LONG, 1, struct.pack("<I", 300))],
        [(EXIF_OFFSET, ASCII, 5, b"abcd\0")],
        [(MAKE, ASCII, 500, struct.pack("<I", 2**32 - 256))],
    ],
)
def test_odd_metadata_of_a_tiff_is_ignored(tmp_path: Path, entries: Any) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(STORED, "u1", orientation(6), *entries, photometric=2))
    check(path, "ignore", (0, 0), (40, 24))
    check(path, "apply", (0, -1), (24, 40))


def test_exif_block_after_the_pixels_of_a_png_counts(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(STORED).save(file, "PNG", exif=exif_block(orientation(6)))
    content = file.getvalue()
    start, end = content.index(b"eXIf") - 4, content.index(b"IDAT") - 4
    path = tmp_path / "a.png"
    path.write_bytes(content[:start] + content[end:-12] + content[start:end] + content[-12:])
    check(path, "apply", (0, -1), (24, 40))
