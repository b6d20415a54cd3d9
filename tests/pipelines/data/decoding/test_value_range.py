"""Values of more than 8 bits are scaled by the range of their source, never by the content of an image."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.base.errors import DataError
from pipelines.data.decoding.value_range import Storage, StoredValues, suggested_range
from pipelines.data.images import examine_image, read_image, to_rgb
from tests.pipelines.data.raw_images import SHORT, png16, tiff

GRAY = np.array([[0, 255, 4095, 65535]])
COLOR = np.stack([GRAY, GRAY // 2, GRAY // 3], axis=2)
OPAQUE = np.full((1, 4, 1), 65535)


def first_row(content: bytes, value_range: Any = None) -> Any:
    return np.asarray(read_image(io.BytesIO(content), "ignore", value_range=value_range))[0].tolist()


def gray(content: bytes, value_range: Any = None) -> list[int]:
    row = first_row(content, value_range)
    assert all(len(set(pixel)) == 1 for pixel in row)
    return [pixel[0] for pixel in row]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("dtype", "sample_format", "values", "value_range", "wanted"),
    [
        ("u1", 1, [[0, 7, 255]], None, [0, 7, 255]),
        ("i1", 2, [[-128, 0, 127]], (-128, 127), [0, 128, 255]),
        ("u2", 1, [[0, 255, 256, 65535]], None, [0, 0, 1, 255]),
        ("u2", 1, [[0, 16, 2048, 4095]], (0, 4095), [0, 1, 128, 255]),
        ("i2", 2, [[0, 256, 32767]], None, [0, 1, 127]),
        ("i2", 2, [[-1024, 0, 3071]], (-1024, 3071), [0, 64, 255]),
        ("i4", 2, [[0, 7, 255]], (0, 255), [0, 7, 255]),
        ("f4", 3, [[0, 0.5, 1]], None, [0, 128, 255]),
        ("f4", 3, [[0, 125, 250]], (0, 250), [0, 128, 255]),
    ],
)
def test_gray_tiff_is_scaled_by_its_range(
    dtype: str, sample_format: int, values: Any, value_range: Any, wanted: Any, order: str
) -> None:
    assert gray(tiff(values, dtype, order=order, sample_format=sample_format), value_range) == wanted


def test_unsigned_32_bits_keep_their_largest_values() -> None:
    assert gray(tiff([[0, 2**31, 2**32 - 1]], "u4"), (0, 2**32 - 1)) == [0, 128, 255]


def test_tiff_in_which_0_is_white_is_inverted() -> None:
    assert gray(tiff([[0, 256, 65535]], "u2", photometric=0)) == [255, 254, 0]


def test_gray_png_with_a_transparent_value_keeps_the_others() -> None:
    assert gray(png16(GRAY, 0)) == [0, 0, 15, 255]
    assert gray(png16(GRAY, 0, [255])) == [0, 255, 15, 255]
    assert gray(png16(GRAY // 16, 0, [0]), (0, 4095)) == [255, 0, 15, 255]


def test_16_bit_color_keeps_its_high_bytes_or_is_scaled_by_its_range() -> None:
    high = (COLOR >> 8)[0].tolist()
    with_alpha = np.concatenate([COLOR, OPAQUE], axis=2)
    for content in (png16(COLOR, 2), png16(with_alpha, 6), tiff(COLOR, "u2", photometric=2)):
        assert first_row(content) == high
    twelve = COLOR // 16
    wanted = (twelve >> 4)[0].tolist()
    assert first_row(png16(twelve, 2), (0, 4095)) == wanted
    assert first_row(png16(np.concatenate([twelve, OPAQUE], axis=2), 6), (0, 4095)) == wanted
    for order in "<>":
        assert first_row(tiff(twelve, "u2", order=order, photometric=2), (0, 4095)) == wanted
    assert first_row(png16(COLOR, 2, [4095, 2047, 1365]))[1:3] == [[0, 0, 0], [255, 255, 255]]


def test_gray_with_alpha_of_16_bits_is_drawn_over_white() -> None:
    values = np.array([[[4095, 65535], [4095, 0], [0, 32768]]])
    assert gray(png16(values, 4)) == [15, 255, 127]
    assert gray(png16(values, 4), (0, 4095)) == [255, 255, 127]


@pytest.mark.parametrize(
    ("content", "value_range", "message"),
    [
        (tiff([[0, 70000]], "i4", sample_format=2), None, r"from 0 to 70000, .* such as \[0, 131071\]"),
        (tiff([[-5, 100]], "i2", sample_format=2), None, r"from -5 to 100, .* such as \[-128, 127\]"),
        (tiff([[-1, 100]], "i1", sample_format=2), None, r"such as \[-128, 127\]"),
        (tiff([[0, 1.001]], "f4", sample_format=3), None, r"from 0 to 1.001, .* such as \[0, 1.001\]"),
        (png16(GRAY, 0), (0, 4095), r"from 0 to 65535, but data.sources.cam.value_range declares \[0, 4095\]"),
        (png16(COLOR, 2), (0, 4095), r"from 0 to 65535, but data.sources.cam.value_range declares \[0, 4095\]"),
    ],
)
def test_value_out_of_range_is_an_error_that_names_the_field(content: bytes, value_range: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_image(io.BytesIO(content), "ignore", value_range=value_range, source="cam")
    assert "set data.sources.cam.value_range to the range" in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_value_that_is_not_finite_is_an_error_in_check_and_reading(tmp_path: Path, bad: float) -> None:
    (tmp_path / "a.tif").write_bytes(tiff([[0, bad]], "f4", sample_format=3))
    for read in (read_image, examine_image):
        with pytest.raises(DataError, match=r"a\.tif: has values that are not finite"):
            read(tmp_path / "a.tif", "ignore")


def test_range_that_the_error_suggests_is_accepted() -> None:
    for value in (1.001, 0.1, 3e-7, 250.3):
        content = tiff([[0, value]], "f4", sample_format=3)
        span = StoredValues(Storage(32, is_float=True), 0.0, float(str(np.float32(value))))
        assert gray(content, suggested_range(span)) == [0, 255]


def test_8_bit_image_ignores_the_range_of_its_source() -> None:
    file = io.BytesIO()
    Image.fromarray(np.array([[0, 7, 255]], np.uint8)).save(file, "PNG")
    assert gray(file.getvalue(), (0, 4095)) == [0, 7, 255]


def test_pgm_has_its_own_range() -> None:
    content = b"P5 3 1 4095\n" + np.array([0, 2048, 4095], ">u2").tobytes()
    assert gray(content) == gray(content, (0, 4095)) == [0, 128, 255]


@pytest.mark.parametrize("color_type", [0, 2])
def test_check_returns_the_values_of_more_than_8_bits(tmp_path: Path, color_type: int) -> None:
    values = GRAY if color_type == 0 else COLOR
    (tmp_path / "a.png").write_bytes(png16(values // 16, color_type))
    facts = examine_image(tmp_path / "a.png", "ignore").values
    assert facts is not None
    assert (facts.storage.bits, facts.low, facts.high) == (16, 0, 4095)
    assert (facts.fit(None), facts.fit((0, 4095)), facts.fit((0, 4094))) == (True, True, False)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (tiff(np.zeros((2, 2, 5)), "u1", photometric=2), r"5 channels of 8-bit integers \(RGB\)"),
        (tiff(np.zeros((2, 2, 3)), "f4", photometric=2, sample_format=3), r"3 channels of 32-bit floats \(RGB\)"),
        (tiff(np.zeros((2, 2)), "f8", sample_format=3), r"1 channel of 64-bit floats \(gray\)"),
        (tiff(np.zeros((2, 2, 2)), "u2", (338, SHORT, 1, b"\2\0")), r"2 channels of 16-bit integers \(gray\)"),
        (tiff(np.zeros((2, 2)), "u4", order=">"), r"1 channel of big-endian 32-bit integers \(gray\)"),
        (tiff(np.zeros((2, 2, 3)), "u1", photometric=8), "color mode LAB"),
        (
            tiff(np.zeros((2, 2)), "u1").replace(
                struct.pack("<HHIH", 259, 3, 1, 1), struct.pack("<HHIH", 259, 3, 1, 99)
            ),
            "compression 99",
        ),
    ],
)
def test_unsupported_layout_is_called_unsupported(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    for read in (read_image, examine_image):
        with pytest.raises(DataError, match=rf"is not supported \({what}\); write it with 8 bits per channel"):
            read(tmp_path / "a.tif", "ignore")


@pytest.mark.parametrize("mode", ["1", "L", "P", "PA", "LA", "RGBA", "CMYK", "YCbCr", "RGBX", "I;16", "I", "F"])
def test_every_other_mode_that_pillow_writes_is_read_in_every_format(tmp_path: Path, mode: str) -> None:
    for suffix in ("png", "tif", "gif", "bmp", "webp", "jpg", "ppm"):
        path = tmp_path / f"a.{suffix}"
        try:
            Image.new(mode, (4, 3), 1).save(path)
        except (OSError, KeyError, ValueError):  # a mode that the format does not have
            continue
        facts = examine_image(path, "apply")
        assert (read_image(path, "apply").size, read_image(path, "apply").mode) == ((facts.width, facts.height), "RGB")


def test_decoded_image_is_scaled_like_a_file() -> None:
    image = Image.fromarray(np.array([[0, 2048, 4095]], np.uint16))
    assert np.asarray(to_rgb(image, (0, 4095)))[0, :, 0].tolist() == [0, 128, 255]
    with pytest.raises(DataError, match=r"image: has values from 0 to 4095"):
        to_rgb(image, (0, 1000))
