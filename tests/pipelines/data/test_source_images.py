"""New images are read by the settings of the sources that a model was trained on."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.base.errors import DataError
from pipelines.data.source_images import NewImageReader
from pipelines.spec.data import DataSpec
from tests.pipelines.data.raw_images import png16

TWELVE_BITS = png16(np.array([[0, 2048, 4095]]), 0)


def reader(*ranges: Any) -> NewImageReader:
    layer = {"format": "coco", "path": "x.json", "tasks": ["things"]}
    sources = {
        f"s{number}": {"images": "x", "labels": [layer], "value_range": value_range}
        for number, value_range in enumerate(ranges)
    }
    return NewImageReader(DataSpec.model_validate({"root": "x", "sources": sources}))


def gray(image: Image.Image) -> Any:
    return np.asarray(image)[0, :, 0].tolist()


@pytest.mark.parametrize(
    ("ranges", "wanted"),
    [
        ([None], [0, 8, 15]),
        ([[0, 4095]], [0, 128, 255]),
        ([None, [0, 4095]], [0, 128, 255]),
        ([[0, 4095], [0, 4095]], [0, 128, 255]),
    ],
)
def test_new_image_has_the_range_of_the_sources(ranges: Any, wanted: list[int]) -> None:
    assert gray(reader(*ranges).read(io.BytesIO(TWELVE_BITS))[0]) == wanted
    decoded = Image.fromarray(np.array([[0, 2048, 4095]], np.uint16))
    assert gray(reader(*ranges).convert(decoded)) == wanted


def test_sources_of_different_ranges_accept_8_bits_only(tmp_path: Path) -> None:
    both = reader([0, 4095], [0, 1023])
    Image.fromarray(np.array([[0, 7, 255]], np.uint8)).save(tmp_path / "a.png")
    assert gray(both.read(tmp_path / "a.png")[0]) == [0, 7, 255]
    (tmp_path / "b.png").write_bytes(TWELVE_BITS)
    message = r"has more than 8 bits .* different values of value_range \(s0: \[0, 4095\], s1: \[0, 1023\]\); convert"
    for image in (tmp_path / "b.png", io.BytesIO(TWELVE_BITS)):
        with pytest.raises(DataError, match=message):
            both.read(image)
    with pytest.raises(DataError, match=message):
        both.convert(Image.fromarray(np.array([[7]], np.uint16)))


def test_value_out_of_range_names_the_field_of_the_source() -> None:
    with pytest.raises(DataError, match=r"image: .* set data.sources.s0.value_range to"):
        reader([0, 1000]).read(io.BytesIO(TWELVE_BITS))
