"""JPEG files are read into arrays with the pixels, and the errors, of Pillow."""

import io
from contextlib import suppress
from itertools import product
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from pipelines.base.errors import DataError
from pipelines.data.decoding.plain_jpeg import plain_jpeg_pixels
from pipelines.data.images import MAX_PIXELS, read_image, read_pixels, read_with_warnings


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return smooth colors with noise, so that chroma has detail and all coefficients occur."""
    rng = np.random.default_rng(seed)
    blocks = Image.fromarray(rng.integers(0, 256, (-(-height // 8) + 1, -(-width // 8) + 1, 3), dtype=np.uint8))
    smooth = np.asarray(blocks.resize((width, height), Image.Resampling.BICUBIC)).astype(np.float64)
    return (smooth + rng.normal(0, 12, (height, width, 3))).clip(0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray, mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def by_pillow(data: bytes, exif: Any = "ignore") -> Any:
    """Return the pixels that Pillow decodes, or the error."""
    try:
        return np.array(read_image(io.BytesIO(data), exif))
    except DataError as error:
        return str(error)


def outcome(data: bytes, exif: Any = "ignore") -> Any:
    """Return the pixels as an array, or the error."""
    try:
        pixels, warnings = read_pixels(io.BytesIO(data), exif)
        assert warnings == read_with_warnings(io.BytesIO(data), exif, MAX_PIXELS, value_range=None, source="s")[1]
        assert (pixels.dtype, pixels.flags.c_contiguous, pixels.flags.writeable) == (np.uint8, True, True)
        return pixels
    except DataError as error:
        return str(error)


def is_plain(data: bytes) -> bool:
    """Return whether the file is decoded without Pillow."""
    with suppress(OSError):
        return plain_jpeg_pixels(Image.open(io.BytesIO(data)), data) is not None
    return False


def assert_plain_and_equal(data: bytes, case: Any) -> None:
    assert is_plain(data), case
    assert np.array_equal(outcome(data), by_pillow(data)), case


def test_pixels_are_equal_for_every_small_size_and_subsampling() -> None:
    for size in range(1, 34):
        for height, width in ((size, size), (size, 34 - size), (17, size)):
            for subsampling in (0, 1, 2):
                data = jpeg(picture(height, width, size), subsampling=subsampling)
                assert_plain_and_equal(data, (height, width, subsampling))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_are_equal_for_every_quality_and_coding(mode: str) -> None:
    pixels = picture(75, 101)
    for quality, progressive, subsampling in product((1, 20, 50, 75, 90, 95, 100), (False, True), (0, 1, 2)):
        data = jpeg(pixels, mode, quality=quality, progressive=progressive, subsampling=subsampling)
        assert_plain_and_equal(data, (quality, progressive, subsampling))
    for options in ({"optimize": True}, {"restart_marker_blocks": 3}, {"restart_marker_rows": 1}, {"keep_rgb": True}):
        assert_plain_and_equal(jpeg(pixels, mode, **options), options)


@pytest.mark.parametrize("subsampling", ["411", "440", "422", "420", "444", "Gray"])
def test_pixels_of_files_by_another_encoder_are_equal(subsampling: str) -> None:
    pixels = picture(75, 101) if subsampling != "Gray" else picture(75, 101)[..., :1].copy()
    colorspace = "GRAY" if subsampling == "Gray" else "RGB"
    assert_plain_and_equal(simplejpeg.encode_jpeg(pixels, 85, colorspace, subsampling), subsampling)


@pytest.mark.parametrize("orientation", range(1, 10))
def test_orientation_is_applied_only_on_request(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(picture(20, 33), exif=exif)
    assert is_plain(data)
    for wanted in ("apply", "ignore"):
        assert np.array_equal(outcome(data, wanted), by_pillow(data, wanted))


def test_color_profile_is_ignored() -> None:
    assert_plain_and_equal(jpeg(picture(20, 33), icc_profile=b"not a profile"), "icc")


def test_other_kinds_are_left_to_pillow() -> None:
    several = io.BytesIO()
    first, second = (Image.fromarray(picture(20, 33, seed)) for seed in (0, 1))
    first.save(several, "MPO", save_all=True, append_images=[second])
    png = io.BytesIO()
    first.save(png, "PNG")
    for data in (several.getvalue(), jpeg(picture(20, 33), "CMYK"), png.getvalue()):
        assert not is_plain(data)
        assert np.array_equal(outcome(data), by_pillow(data))


@pytest.mark.parametrize("progressive", [False, True])
def test_truncated_file_is_read_as_by_pillow(progressive: bool) -> None:
    data = jpeg(picture(75, 101), progressive=progressive)
    for size in (*range(len(data) // 5, len(data), 211), *range(len(data) - 4, len(data))):
        assert not is_plain(data[:size])
        assert np.array_equal(outcome(data[:size]), by_pillow(data[:size])), size


@pytest.mark.parametrize("progressive", [False, True])
def test_damaged_file_is_read_as_by_pillow(progressive: bool) -> None:
    whole = jpeg(picture(40, 61), progressive=progressive)
    rng = np.random.default_rng(0)
    for case in range(400):
        data = bytearray(whole)
        for position in rng.integers(2, len(data), rng.integers(1, 4)):
            data[position] = rng.integers(0, 256)
        assert np.array_equal(outcome(bytes(data)), by_pillow(bytes(data))), case


def test_bytes_after_the_image_change_nothing() -> None:
    data = jpeg(picture(40, 61)) + b"trailing" * 100
    assert np.array_equal(outcome(data), by_pillow(data))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_size_in_the_header_is_limited_before_anything_is_decoded() -> None:
    data = bytearray(jpeg(picture(40, 61)))
    start = data.index(b"\xff\xc0") + 5
    for height, width in ((60_000, 60_000), (9_000, 11_000)):
        data[start : start + 4] = height.to_bytes(2) + width.to_bytes(2)
        assert f"at most {MAX_PIXELS:,} are read" in outcome(bytes(data))
    with pytest.raises(DataError, match="has 61 x 40 pixels; at most 1,000"):
        read_pixels(io.BytesIO(jpeg(picture(40, 61))), "ignore", max_pixels=1_000)


def test_decoder_never_exceeds_the_size_that_pillow_has_found() -> None:
    large = jpeg(picture(200, 300))
    opened = Image.open(io.BytesIO(jpeg(picture(8, 8))))
    assert plain_jpeg_pixels(opened, large) is None
    opened = Image.open(io.BytesIO(large))
    assert plain_jpeg_pixels(opened, jpeg(picture(8, 8))) is None
