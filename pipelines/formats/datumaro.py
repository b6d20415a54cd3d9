"""Datumaro: one JSON file for each subset. Torch-free.

https://openvinotoolkit.github.io/datumaro/latest/docs/data-formats/formats/datumaro.html
"""

import posixpath
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import Field

from pipelines.base.findings import Finding
from pipelines.base.paths import RelativePath
from pipelines.formats.booleans import read_boolean
from pipelines.formats.datumaro_recognition import recognize_datumaro
from pipelines.formats.folder_contents import FolderContents, FolderReading
from pipelines.formats.image_names import AmbiguousImage, ImageNames
from pipelines.formats.json_files import parse_json
from pipelines.formats.layer import LabelKind, LabelLayer, confirmed_unit
from pipelines.formats.layer_content import FileBox, FileImage, LayerContent
from pipelines.formats.numbers import is_number
from pipelines.formats.outlines import XYWH, segmentation_box
from pipelines.formats.source_split import SourceSplit


class DatumaroLayer(LabelLayer):
    """Datumaro: boxes, polygons and masks as boxes; attributes of an annotation as identities."""

    GIVES: ClassVar[frozenset[LabelKind]] = frozenset({"boxes", "identities"})
    RECOGNIZED_BY: ClassVar[str] = "JSON files with items and categories"

    format: Literal["datumaro"]
    path: RelativePath = Field("annotations/{split}.json", description="the JSON file of a subset")
    unit: Literal["pixels"] | None = confirmed_unit("pixels")

    @classmethod
    def recognize(cls, folder: FolderContents) -> list[FolderReading]:
        return recognize_datumaro(folder)

    def paths(self, images: str) -> dict[str, str]:
        """Return the JSON file."""
        return {"path": self.path}

    def read(self, split: SourceSplit, identity_fields: Collection[str]) -> LayerContent | None:
        """Return the labels of the split's file; class ids are kept.

        Polygons, masks and ellipses become the boxes that enclose them; other annotations are counted. The attributes
        `is_crowd` and `difficult` are read.
        """
        path = split.path(self.path)
        content = LayerContent(file=split.fill(self.path))
        if not path.is_file() or not split.reads_undivided(self.path):
            return None
        finding = partial(split.finding, file=content.file)
        found = content.read_file(path, _parse, finding)
        if found is None:
            return content
        items, names = found
        content.declare(enumerate(names), finding)
        images = ImageNames.below(split.images_dir)
        skipped: Counter[str] = Counter()
        for position, item in enumerate(items):
            image = _read_image(item, position, images, split, content, finding)
            if image is not None:
                _read_annotations(item, image, names, content, identity_fields, skipped, finding)
        content.refuse_shapes(skipped, finding)
        return content


def _parse(data: bytes) -> tuple[list[Any], list[str]]:
    """Return the items and the names of the classes."""
    document = parse_json(data)
    try:
        items, labels = document["items"], document["categories"]["label"]["labels"]
        names = [label["name"].strip() for label in labels]
    except (KeyError, TypeError, IndexError, AttributeError):
        items, names = None, []
    if not isinstance(items, list) or not all(names):
        raise ValueError(
            "is not Datumaro's JSON; it has 'items', and the classes with their names in 'categories.label'"
        )
    return items, names


def _read_image(
    item: Any,
    position: int,
    images: ImageNames,
    split: SourceSplit,
    content: LayerContent,
    finding: Callable[..., Finding],
) -> FileImage | None:
    """Return the image of an item, or report why it has none."""
    item_id = item.get("id") if isinstance(item, dict) else None
    if not isinstance(item_id, str) or not item_id or not isinstance(item.get("annotations", []), list):
        content.findings.append(finding("broken_entry", f"item {position} needs an 'id' and a list of 'annotations'"))
        return None
    media: dict[str, Any] = next((item[key] for key in ("image", "media") if isinstance(item.get(key), dict)), {})
    given, size = media.get("path"), media.get("size")
    try:
        given = given if isinstance(given, str) and given else item_id
        stored = images.with_suffix(item_id, split.name_on_disk, posixpath.splitext(given)[1])
        file_name = images.claim(stored or images.find(given, split.name_on_disk), item_id)
    except AmbiguousImage as error:
        content.findings.append(finding("ambiguous_image", f"{error}; write the folders of images into the paths"))
        return None
    if file_name in content.images:
        message = "is listed twice; the objects are merged"
        content.findings.append(finding("repeated_image", message, image=file_name))
    sides = size if isinstance(size, list) and len(size) == 2 else []
    is_size = len(sides) == 2 and all(is_number(side) and side > 0 for side in sides)
    size_hw = (int(sides[0]), int(sides[1])) if is_size else None
    return content.images.setdefault(file_name, FileImage(file_name, size_hw=size_hw, boxes=[]))


def _read_annotations(
    item: dict[str, Any],
    image: FileImage,
    names: list[str],
    content: LayerContent,
    identity_fields: Collection[str],
    skipped: Counter[str],
    finding: Callable[..., Finding],
) -> None:
    assert image.boxes is not None
    for position, annotation in enumerate(item.get("annotations", [])):
        content.num_read += 1
        kind = annotation.get("type") if isinstance(annotation, dict) else None
        report = partial(finding, image=image.file_name, annotation_id=f"#{position}")
        if not isinstance(kind, str):
            content.refuse([report("broken_entry", "is not an object with a 'type'")])
            continue
        box = _box_of(kind, annotation)
        if box is None:
            skipped[kind] += 1
            continue
        class_id = annotation.get("label_id")
        given = annotation.get("attributes")
        attributes = given if isinstance(given, dict) else {}
        if isinstance(box, str):
            content.refuse([report("broken_entry", f"{kind} {box}")])
        elif isinstance(class_id, bool) or not isinstance(class_id, int) or not 0 <= class_id < len(names):
            message = f"label_id {class_id!r} is not declared; the file has the classes 0 to {len(names) - 1}"
            content.refuse([report("unknown_category", message)])
        elif odd := [key for key in ("is_crowd", "difficult") if read_boolean(attributes.get(key)) is None]:
            message = f"the attribute {odd[0]} is {attributes[odd[0]]!r}; write true or false"
            content.refuse([report("broken_entry", message)])
        else:
            image.boxes.append(
                FileBox(
                    annotation_id=None,
                    category=names[class_id],
                    bbox_xywh=box,
                    is_crowd=bool(read_boolean(attributes.get("is_crowd"))),
                    is_difficult=bool(read_boolean(attributes.get("difficult"))),
                    identities={
                        key: str(attributes[key]) for key in identity_fields if attributes.get(key) not in (None, "")
                    },
                )
            )


def _box_of(kind: str, annotation: dict[str, Any]) -> XYWH | str | None:
    """Return the box that encloses an annotation, what is wrong with it, or None if its kind has no box."""
    match kind:
        case "bbox":
            values = annotation.get("bbox")
            if not isinstance(values, list) or len(values) != 4 or not all(map(is_number, values)):
                return f"is {values!r}; write four finite numbers [x, y, width, height]"
            return float(values[0]), float(values[1]), float(values[2]), float(values[3])
        case "ellipse":
            points = annotation.get("points")
            if not isinstance(points, list) or len(points) != 4 or not all(map(is_number, points)):
                return f"has the points {points!r}; write [left, top, right, bottom]"
            left, top, right, bottom = points
            return left, top, right - left, bottom - top
        case "polygon":
            return segmentation_box([annotation.get("points")])
        case "mask":
            return segmentation_box(annotation.get("rle"))
        case _:
            return None
