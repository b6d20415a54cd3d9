"""Images of all supported kinds are read as 8-bit RGB, and others raise an error that names the file."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.base.errors import DataError
from pipelines.data.images import MAX_PIXELS, examine_image, read_image
from tests.pipelines.data.raw_images import tiff


def pixels(path: Path, exif: Any = "ignore") -> np.ndarray:
    image = read_image(path, exif)
    assert image.mode == "RGB"
    return np.asarray(image)


def save(path: Path, values: Any, dtype: Any, mode: str | None = None, **options: Any) -> Path:
    image = Image.fromarray(np.array(values, dtype=dtype))
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def test_rgb_is_read_unchanged_from_every_lossless_format(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    for suffix, options in (("png", {}), ("bmp", {}), ("tiff", {}), ("ppm", {}), ("webp", {"lossless": True})):
        assert np.array_equal(pixels(save(tmp_path / f"a.{suffix}", values, np.uint8, **options)), values)


@pytest.mark.parametrize("mode", ["L", "1"])
def test_gray_becomes_three_equal_channels(tmp_path: Path, mode: str) -> None:
    path = save(tmp_path / "a.png", [[0, 255], [255, 0]], np.uint8, mode)
    assert pixels(path)[..., 0].tolist() == [[0, 255], [255, 0]]
    assert (pixels(path) == pixels(path)[..., :1]).all()


def test_palette_is_resolved(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png").tolist() == [[[10, 20, 30], [40, 50, 60]]]
    image.save(tmp_path / "b.png", transparency=0)
    assert pixels(tmp_path / "b.png").tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_transparent_image_is_drawn_over_white(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", [[[9, 9, 9, 0], [100, 0, 0, 255], [0, 0, 0, 51]]], np.uint8)
    assert pixels(path).tolist() == [[[255, 255, 255], [100, 0, 0], [204, 204, 204]]]
    Image.new("LA", (1, 1), (7, 0)).save(tmp_path / "b.png")
    assert pixels(tmp_path / "b.png").tolist() == [[[255, 255, 255]]]


def test_cmyk_is_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    assert np.abs(pixels(tmp_path / "a.jpg").astype(int) - (255, 0, 0)).max() <= 4


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_16_bit_gray_is_divided_by_256(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, [[0, 255, 256, 32768, 65535]], np.uint16)
    assert pixels(path)[0, :, 0].tolist() == [0, 0, 1, 128, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotates_an_image_only_if_it_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", np.arange(18).reshape(2, 3, 3), np.uint8, exif=exif)
    upright = np.arange(18).reshape(2, 3, 3)
    wanted = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, -1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright),
    }[orientation]
    assert np.array_equal(pixels(path, "apply"), wanted)
    assert np.array_equal(pixels(path, "ignore"), upright)
    facts = examine_image(path, "apply")
    assert (facts.height, facts.width) == wanted.shape[:2]
    assert (examine_image(path, "ignore").height, examine_image(path, "ignore").width) == (2, 3)


@pytest.mark.parametrize("suffix", ["png", "tiff", "webp", "bmp"])
def test_truncated_image_is_an_error_that_names_the_file(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", np.random.default_rng(0).integers(0, 256, (64, 64, 3)), np.uint8)
    path.write_bytes(path.read_bytes()[:-600])
    for read in (read_image, examine_image):
        with pytest.raises(DataError, match=rf"a\.{suffix}: cannot be decoded|a\.{suffix}: is not an image"):
            read(path, "ignore")


def test_file_that_is_missing_or_not_an_image_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(DataError, match="is not an image of a known format"):
        read_image(tmp_path / "a.png", "ignore")
    with pytest.raises(DataError, match=r"b\.png: the file is missing"):
        read_image(tmp_path / "b.png", "apply")


def test_postscript_is_never_opened(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(DataError, match="is not an image of a known format"):
        read_image(tmp_path / "a.png", "ignore")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_500, 20_000])
def test_decompression_bomb_is_rejected_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    path = tmp_path / "a.png"
    Image.new("1", (side, side)).save(path)
    for read in (read_image, examine_image):
        with pytest.raises(DataError, match=f"at most {MAX_PIXELS:,} are read"):
            read(path, "ignore")


def test_image_is_read_from_an_open_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", [[[1, 2, 3]]], np.uint8)
    assert np.asarray(read_image(io.BytesIO(path.read_bytes()), "apply")).tolist() == [[[1, 2, 3]]]
    with pytest.raises(DataError, match=r"^image: is not an image"):
        read_image(io.BytesIO(b"x"), "apply")


def test_check_and_reading_agree_on_the_size_of_a_jpeg(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", np.zeros((50, 75, 3)), np.uint8)
    facts = examine_image(path, "ignore")
    assert (facts.width, facts.height) == read_image(path, "ignore").size == (75, 50)


def test_folder_or_a_path_that_cannot_be_opened_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    for read in (read_image, examine_image):
        with pytest.raises(DataError, match=r"a\.png: is a folder, not an image"):
            read(tmp_path / "a.png", "ignore")
        with pytest.raises(DataError, match=r"\.png: cannot be opened \(File name too long\)"):
            read(tmp_path / f"{'x' * 300}.png", "ignore")


def test_name_that_is_not_utf8_is_escaped_in_messages(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    path.write_text("hello")
    with pytest.raises(DataError, match=r"caf\\xe9\.png: is not an image"):
        read_image(path, "ignore")


def test_warnings_and_logs_of_pillow_do_not_reach_users(tmp_path: Path) -> None:
    large, many_channels = tmp_path / "large.png", tmp_path / "many.tif"
    Image.new("1", (12_000, 8_000)).save(large)
    many_channels.write_bytes(tiff(np.zeros((1, 1, 70)), "u1", photometric=2))
    Image.new("RGB", (8, 8)).save(tmp_path / "exif.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    code = (
        "import sys; from pathlib import Path; from pipelines.base.errors import DataError\n"
        "from pipelines.data.images import examine_image, read_image\n"
        "for path in map(Path, sys.argv[1:]):\n"
        "    for read in (examine_image, read_image):\n"
        "        try: read(path, 'apply')\n"
        "        except DataError as error: print(str(error).partition(': ')[2][:24])\n"
    )
    words = [sys.executable, "-c", code, *map(str, (large, many_channels, tmp_path / "exif.jpg"))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    expected = ["has 12000 x 8000 pixels;"] * 2 + ["is not supported (70 cha"] * 2
    assert (done.stdout.splitlines(), done.stderr) == (expected, "")
