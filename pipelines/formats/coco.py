"""COCO instances: one JSON file for each split. Torch-free."""

import json
import math
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import Field

from pipelines.base.findings import Finding
from pipelines.base.paths import RelativePath, normalized
from pipelines.formats.booleans import read_boolean
from pipelines.formats.coco_recognition import recognize_coco
from pipelines.formats.coco_writer import CocoWriter
from pipelines.formats.folder_contents import FolderContents, FolderReading
from pipelines.formats.json_files import parse_json
from pipelines.formats.layer import LabelKind, LabelLayer
from pipelines.formats.layer_content import FileBox, FileId, FileImage, LayerContent
from pipelines.formats.numbers import is_number
from pipelines.formats.outlines import segmentation_box
from pipelines.formats.source_split import SourceSplit

_MakeFinding = Callable[..., Finding]
_ORDERS = {"xywh": "[x, y, width, height]", "xyxy": "[x1, y1, x2, y2]", "cxcywh": "[center x, center y, width, height]"}


class CocoLayer(LabelLayer):
    """COCO instances: boxes, `iscrowd`, and any further field of an annotation as identity."""

    GIVES: ClassVar[frozenset[LabelKind]] = frozenset({"boxes", "identities"})
    RECOGNIZED_BY: ClassVar[str] = "JSON files with images, annotations and categories"
    WRITER = CocoWriter

    format: Literal["coco"]
    path: RelativePath

    bbox: Literal["xywh", "xyxy", "cxcywh"] | None = Field(
        None, description="the four numbers of `bbox`; default: xywh, refused if the boxes look like anything else"
    )
    unit: Literal["pixels", "relative"] | None = Field(
        None, description="unit of the numbers of boxes; default: pixels, refused if they look like anything else"
    )

    @classmethod
    def recognize(cls, folder: FolderContents) -> list[FolderReading]:
        return recognize_coco(folder)

    def paths(self, images: str) -> dict[str, str]:
        """Return the JSON file."""
        return {"path": self.path}

    def read(self, split: SourceSplit, identity_fields: Collection[str]) -> LayerContent | None:
        """Return the labels of the split's file.

        Ids may be any integers, floats or strings. `iscrowd` and `area` are optional. `segmentation` is read only where
        `bbox` is missing: its enclosing box is used.
        """
        path = split.path(self.path)
        content = LayerContent(file=split.fill(self.path))
        if not path.is_file():
            return None
        finding = partial(split.finding, file=content.file)
        document = content.read_file(path, parse_json, finding)
        if document is None:
            return content
        if broken := _broken_parts(document):
            content.findings += [finding("broken_label_file", message) for message in broken]
            return content
        names = _read_categories(document["categories"], content, finding)
        file_names = _read_images(document["images"], content, finding)
        refused: list[Finding] = []
        for position, annotation in enumerate(document["annotations"]):
            content.num_read += 1
            problem = _read_annotation(annotation, position, names, file_names, content, identity_fields, finding, self)
            if problem is not None:
                refused.append(problem)
        content.refuse(refused)
        return content


def _broken_parts(document: Any) -> list[str]:
    if not isinstance(document, dict):
        return [f"contains {_kind_of(document)}; COCO is an object with 'images', 'annotations' and 'categories'"]
    return [
        f"'{key}' is {_kind_of(document[key])}; write a list" if key in document else f"has no '{key}'"
        for key in ("images", "annotations", "categories")
        if not isinstance(document.get(key), list)
    ]


def _read_categories(entries: list[Any], content: LayerContent, finding: _MakeFinding) -> dict[FileId, str]:
    """Return category names by id."""
    names: dict[FileId, str] = {}
    for position, entry in enumerate(entries):
        category_id, name = _get(entry, "id"), _get(entry, "name")
        name = name.strip() if isinstance(name, str) else name
        if not _is_id(category_id) or not isinstance(name, str) or not name:
            content.findings.append(
                finding("broken_entry", f"category {position} is {_shown(entry)}; it needs an 'id' and a 'name'")
            )
        elif names.get(category_id, name) != name:
            content.findings.append(
                finding(
                    "broken_entry",
                    f"category id {category_id!r} is both {names[category_id]!r} and {name!r}; give each its own id",
                )
            )
        else:
            if category_id not in names and name in content.category_ids:
                others = ", ".join(map(repr, content.category_ids[name]))
                message = f"the categories {others} and {category_id!r} are both {name!r}; they are merged"
                content.findings.append(finding("repeated_category", message))
            names[category_id] = name
            content.category_ids.setdefault(name, set()).add(category_id)
    return names


def _read_images(entries: list[Any], content: LayerContent, finding: _MakeFinding) -> dict[FileId, str]:
    """Return file names by image id, without invalid entries; if two files share an id, the first one has it."""
    file_names: dict[FileId, str] = {}
    for position, entry in enumerate(entries):
        image_id, given_name = _get(entry, "id"), _get(entry, "file_name")
        size = (_get(entry, "height"), _get(entry, "width"))
        if not _is_id(image_id) or not isinstance(given_name, str) or not given_name:
            message = f"image {position} is {_shown(entry)}; it needs an 'id' and a 'file_name'"
            content.findings.append(finding("broken_entry", message))
            continue
        file_name = normalized(given_name)
        if image_id in file_names:
            if file_names[image_id] == file_name:
                content.findings.append(finding("repeated_image", "is listed twice; remove one entry", image=file_name))
                continue
            message = (
                f"image id {image_id!r} stands for {file_names[image_id]!r} and for {file_name!r}; give each its own id"
            )
            content.findings.append(finding("ambiguous_image", message, image=file_name))
            continue
        file_names[image_id] = file_name
        if file_name in content.images:
            message = f"is listed under the ids {content.images[file_name].file_id!r} and {image_id!r}; they are merged"
            content.findings.append(finding("repeated_image", message, image=file_name))
            continue
        size_hw = (int(size[0]), int(size[1])) if all(is_number(side) and side > 0 for side in size) else None
        if size_hw is None and any(side not in (None, 0) for side in size):
            message = f"height and width are {size[0]!r} and {size[1]!r}; write both in pixels, or omit both"
            content.findings.append(finding("broken_entry", message, image=file_name))
        content.images[file_name] = FileImage(file_name, image_id, size_hw, boxes=[])
    return file_names


def _read_annotation(
    annotation: Any,
    position: int,
    names: dict[FileId, str],
    file_names: dict[FileId, str],
    content: LayerContent,
    identity_fields: Collection[str],
    finding: _MakeFinding,
    layer: CocoLayer,
) -> Finding | None:
    """Add the annotation to its image, or return the finding that says why it is skipped."""
    annotation_id = _get(annotation, "id")
    shown_id = annotation_id if isinstance(annotation_id, int | str) else f"#{position}"
    if missing := [key for key in ("image_id", "category_id") if _get(annotation, key) is None]:
        return finding("broken_entry", f"has no {' and no '.join(map(repr, missing))}", annotation_id=shown_id)
    image_id, category_id = annotation["image_id"], annotation["category_id"]
    file_name = file_names.get(image_id) if _is_id(image_id) else None
    if file_name is None:
        ids = f"; the ids there are like {next(iter(file_names))!r}" if file_names else ""
        message = f"image_id {image_id!r} is not the id of a readable entry of 'images'{ids}"
        return finding("unknown_image", message, annotation_id=shown_id, cause="unknown image id")
    bbox = _given_or_derived_box(annotation, layer.bbox or "xywh")
    if broken := bbox if isinstance(bbox, str) else _broken_values(annotation, identity_fields):
        return finding("broken_entry", broken, image=file_name, annotation_id=shown_id)
    if not _is_id(category_id) or category_id not in names:
        message = f"category_id {category_id!r} is not declared; 'categories' has {_listed(names)}"
        return finding("unknown_category", message, image=file_name, annotation_id=shown_id)
    x, y, width, height = (float(side) for side in bbox)
    area = annotation.get("area")
    boxes = content.images[file_name].boxes
    assert boxes is not None
    boxes.append(
        FileBox(
            annotation_id=annotation_id if _is_id(annotation_id) else None,
            category=names[category_id],
            bbox_xywh=(x, y, width, height),
            is_crowd=bool(read_boolean(annotation.get("iscrowd"))),
            area=None if area is None else float(area) if is_number(area) else math.nan,
            identities={key: str(annotation[key]) for key in identity_fields if annotation.get(key) not in (None, "")},
            unit=layer.unit or "pixels",
        )
    )
    return None


def _given_or_derived_box(annotation: dict[str, Any], order: str) -> Sequence[float] | str:
    """Return x, y, width, height of `bbox`, or of `segmentation` if it is missing, or what is wrong with them."""
    bbox, segmentation = annotation.get("bbox"), annotation.get("segmentation")
    if bbox not in (None, []):
        is_box = isinstance(bbox, list) and len(bbox) == 4 and all(is_number(side) for side in bbox)
        return (
            _as_xywh(bbox, order) if is_box else f"bbox is {_shown(bbox)}; write four finite numbers {_ORDERS[order]}"
        )
    if segmentation is None:
        return "has no 'bbox', and no 'segmentation' to derive it from"
    box = segmentation_box(segmentation)
    return f"has no 'bbox', and its 'segmentation' {box}" if isinstance(box, str) else box


def _as_xywh(numbers: Sequence[float], order: str) -> Sequence[float]:
    first, second, third, fourth = numbers
    if order == "xyxy":
        return first, second, third - first, fourth - second
    if order == "cxcywh":
        return first - third / 2, second - fourth / 2, third, fourth
    return numbers


def _broken_values(annotation: dict[str, Any], identity_fields: Collection[str]) -> str | None:
    if read_boolean(annotation.get("iscrowd")) is None:
        return f"iscrowd is {_shown(annotation['iscrowd'])}; write 0 or 1"
    area = annotation.get("area")
    if area is not None and (isinstance(area, bool) or not isinstance(area, int | float)):
        return f"area is {_shown(area)}; write square pixels, or omit it"
    for key in identity_fields:
        identity = annotation.get(key)
        if identity is not None and not _is_id(identity):
            return f"{key} is {_shown(identity)}; write a name or a number"
    return None


def _get(entry: Any, key: str) -> Any:
    return entry.get(key) if isinstance(entry, dict) else None


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str | float) and not isinstance(value, bool)


def _kind_of(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", type(None): "null", bool: "true or false"}
    return kinds.get(type(value), "a number")


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _listed(names: dict[FileId, str]) -> str:
    shown = ", ".join(f"{category_id} ({name})" for category_id, name in list(names.items())[:10])
    return shown + (", ..." if len(names) > 10 else "") if names else "none"
