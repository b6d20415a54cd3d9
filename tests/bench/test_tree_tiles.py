"""Tiles cover their image, and boxes are cut at the edges of tiles."""

import io
import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tests.bench.tree_tiles import DATA, IMAGES, clipped, starts, write_tiles

XML = (
    "<annotation><object><name>Dead</name><bndbox><xmin>{}</xmin><ymin>10</ymin><xmax>{}</xmax><ymax>40</ymax></bndbox>"
    "</object></annotation>"
)


@pytest.mark.parametrize(("length", "expected"), [(300, [0]), (400, [0]), (401, [0, 1]), (1000, [0, 300, 600])])
def test_tiles_are_evenly_spaced_and_cover_all_pixels(length: int, expected: list[int]) -> None:
    assert starts(length, 400) == expected


@pytest.mark.parametrize(
    ("box_xyxy", "expected"),
    [
        ((110, 120, 130, 150), (10, 20, 20, 30)),
        ((90, 120, 120, 150), (0, 20, 20, 30)),
        ((60, 120, 110, 150), None),
        ((10, 10, 50, 50), None),
    ],
    ids=("inside", "mostly_inside", "mostly_outside", "outside"),
)
def test_boxes_are_clipped_to_their_tile(
    box_xyxy: tuple[float, float, float, float], expected: tuple[float, float, float, float] | None
) -> None:
    assert clipped(box_xyxy, (100, 100, 200, 200)) == expected


def test_splits_have_tiles_of_different_images(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "package.whl", "w") as package:
        for number, name in enumerate(IMAGES):
            picture = io.BytesIO()
            Image.new("RGB", (100 + 50 * number, 100)).save(picture, "png")
            package.writestr(f"{DATA}/{name}.png", picture.getvalue())
            package.writestr(f"{DATA}/{name}.xml", XML.format(5, 25))
    assert write_tiles(tmp_path / "package.whl", tmp_path / "trees", 100) == {
        "train": (1, 1),
        "val": (2, 1),
        "test": (5, 2),
    }
    document = json.loads((tmp_path / "trees/annotations/instances_test.json").read_text())
    assert [found["bbox"] for found in document["annotations"]] == [[5, 10, 20, 30]] * 2
    for found in document["images"]:
        assert Image.open(tmp_path / "trees/images" / found["file_name"]).size == (100, 100)
