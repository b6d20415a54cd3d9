"""Images of all supported kinds are read as 8-bit RGB, and others raise an error that names the file."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.base.errors import DataError
from pipelines.data.images import MAX_PIXELS, examine_image, read_image


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


def test_32_bit_gray_is_read_as_16_bit_or_rejected(tmp_path: Path) -> None:
    assert pixels(save(tmp_path / "a.tiff", [[0, 512, 65535]], np.int32))[0, :, 2].tolist() == [0, 2, 255]
    with pytest.raises(DataError, match="has values from 0 to 70000"):
        read_image(save(tmp_path / "b.tiff", [[0, 70000]], np.int32), "ignore")


@pytest.mark.parametrize(
    ("values", "wanted"),
    [([[0, 0.5, 1]], [0, 128, 255]), ([[0, 1.4, 255]], [0, 1, 255]), ([[0, 300, 65535]], [0, 1, 255])],
)
def test_float_is_scaled_by_its_range(tmp_path: Path, values: Any, wanted: list[int]) -> None:
    assert pixels(save(tmp_path / "a.tiff", values, np.float32))[0, :, 0].tolist() == wanted


@pytest.mark.parametrize("bad", [float("nan"), -1.0, 1e6])
def test_float_without_a_clear_range_is_rejected_by_reading_and_by_the_check(tmp_path: Path, bad: float) -> None:
    path = save(tmp_path / "a.tiff", [[0, bad]], np.float32)
    for read in (read_image, examine_image):
        with pytest.raises(DataError, match=r"a\.tiff: has values from"):
            read(path, "ignore")


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


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp", "bmp"])
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
