"""Cut the aerial images inside the package `deepforest` (MIT) into tiles with boxes of trees: a COCO folder.

    pip download --no-deps --dest /tmp deepforest==2.1.0
    python -m tests.bench.tree_tiles /tmp/deepforest-2.1.0-py3-none-any.whl /tmp/trees

The package is read and not installed. Its four labeled images have 951 boxes, with living and dead trees as one class.
Images are not divided between splits, so val and test show other places than train.
"""

import argparse
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from PIL import Image

from pipelines.base.records import Split

DATA = "deepforest/data"
IMAGES: dict[str, Split] = {
    "2019_YELL_2_528000_4978000_image_crop2": "train",
    "2019_YELL_2_541000_4977000_image_crop": "val",
    "OSBS_029": "test",
    "SOAP_061": "test",
}
SIDES = ("xmin", "ymin", "xmax", "ymax")
MIN_VISIBLE = 0.3
"""Boxes with a smaller part of their area inside a tile are dropped from it."""

Box = tuple[float, float, float, float]


def starts(length: int, side: int) -> list[int]:
    """Return the first pixels of the tiles along one side of an image: evenly spaced, together all pixels."""
    number = max(1, -(-length // side))
    return [0] if number == 1 else [round(i * (length - side) / (number - 1)) for i in range(number)]


def clipped(box_xyxy: Box, tile_xyxy: Box) -> Box | None:
    """Return the part of a box inside a tile as (x, y, width, height) of the tile; None if it is too small a part."""
    left, top, right, bottom = (
        *(max(a, b) for a, b in zip(box_xyxy[:2], tile_xyxy[:2], strict=True)),
        *(min(a, b) for a, b in zip(box_xyxy[2:], tile_xyxy[2:], strict=True)),
    )
    width, height = right - left, bottom - top
    area = (box_xyxy[2] - box_xyxy[0]) * (box_xyxy[3] - box_xyxy[1])
    if width <= 0 or height <= 0 or width * height < MIN_VISIBLE * area:
        return None
    return left - tile_xyxy[0], top - tile_xyxy[1], width, height


def tiles(image: Image.Image, boxes: list[Box], side: int) -> Iterator[tuple[Image.Image, list[Box]]]:
    """Yield the tiles of an image, each with its boxes (x, y, width, height)."""
    for top in starts(image.height, side):
        for left in starts(image.width, side):
            tile = (left, top, min(left + side, image.width), min(top + side, image.height))
            inside = [part for box in boxes if (part := clipped(box, tile)) is not None]
            yield image.crop(tile), inside


def read(package: zipfile.ZipFile, name: str) -> tuple[Image.Image, list[Box]]:
    """Return an image of the package and its boxes (left, top, right, bottom)."""
    image = Image.open(io.BytesIO(package.read(f"{DATA}/{name}.png"))).convert("RGB")
    root = ElementTree.fromstring(package.read(f"{DATA}/{name}.xml"))
    boxes = [tuple(float(found.findtext(side, "")) for side in SIDES) for found in root.iter("bndbox")]
    return image, boxes  # type: ignore[return-value]  # four sides


def write_tiles(package_path: Path, out: Path, side: int) -> dict[Split, tuple[int, int]]:
    """Write images/SPLIT/*.png and annotations/instances_SPLIT.json; return the tiles and the boxes of each split."""
    documents: dict[Split, dict[str, list[dict[str, Any]]]] = {}
    with zipfile.ZipFile(package_path) as package:
        for name, split in IMAGES.items():
            (out / "images" / split).mkdir(parents=True, exist_ok=True)
            empty = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "tree"}]}
            document = documents.setdefault(split, empty)
            for number, (tile, boxes) in enumerate(tiles(*read(package, name), side), start=1):
                file_name, image_id = f"{split}/{name}_{number:02d}.png", len(document["images"]) + 1
                tile.save(out / "images" / file_name)
                document["images"].append(
                    {"id": image_id, "file_name": file_name, "width": tile.width, "height": tile.height}
                )
                for box in boxes:
                    fields = {"image_id": image_id, "category_id": 1, "area": box[2] * box[3], "iscrowd": 0}
                    document["annotations"].append({"id": len(document["annotations"]) + 1, "bbox": box, **fields})
    (out / "annotations").mkdir(exist_ok=True)
    for split, document in documents.items():
        (out / f"annotations/instances_{split}.json").write_text(json.dumps(document), encoding="utf-8")
    return {split: (len(document["images"]), len(document["annotations"])) for split, document in documents.items()}


def main() -> None:
    """Write the folder, and print what is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the wheel")
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--side", type=int, default=400, help="of a tile, in pixels (default: 400)")
    options = parser.parse_args()
    for split, (images, boxes) in write_tiles(options.package, options.out, options.side).items():
        print(f"{split}: {images} tiles with {boxes} boxes")


if __name__ == "__main__":
    main()
