"""CVAT for images 1.1: one XML file with all images. Torch-free.

https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/
"""

import posixpath
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from typing import ClassVar, Literal

from pydantic import Field

from pipelines.base.findings import Finding
from pipelines.base.paths import RelativePath
from pipelines.formats.box_numbers import BoxNumbers
from pipelines.formats.cvat_recognition import recognize_cvat
from pipelines.formats.folder_contents import FolderContents, FolderReading
from pipelines.formats.image_names import AmbiguousImage, ImageNames
from pipelines.formats.layer import LabelKind, LabelLayer, confirmed_unit
from pipelines.formats.layer_content import FileBox, FileImage, LayerContent
from pipelines.formats.numbers import number_in
from pipelines.formats.outlines import XYWH, ellipse_box, enclosing_box, rotated_box
from pipelines.formats.source_split import SourceSplit
from pipelines.formats.xml_files import case_message, correct_case, parse_xml

_SUBSET_NAMES = {"val": "validation", "validation": "val", "valid": "validation"}
_READ = {
    "annotations", "attribute", "box", "ellipse", "image", "job", "label", "labels", "mask", "meta", "name", "parent",
    "polygon", "subset", "task", "track",
}  # fmt: skip
_KEYS = {
    "box": ("xtl", "ytl", "xbr", "ybr"),
    "mask": ("left", "top", "width", "height"),
    "ellipse": ("cx", "cy", "rx", "ry"),
}


class CvatLayer(LabelLayer):
    """CVAT for images 1.1: boxes, polygons, masks and ellipses as boxes; attributes of a shape as identities."""

    GIVES: ClassVar[frozenset[LabelKind]] = frozenset({"boxes", "identities"})
    NUMBERS = BoxNumbers("xyxy")
    RECOGNIZED_BY: ClassVar[str] = "XML files with the root annotations"

    format: Literal["cvat"]
    path: RelativePath = Field("annotations.xml", description="the XML file; its subsets are the splits")
    unit: Literal["pixels"] | None = confirmed_unit("pixels")

    @classmethod
    def recognize(cls, folder: FolderContents) -> list[FolderReading]:
        return recognize_cvat(folder)

    def paths(self, images: str) -> dict[str, str]:
        """Return the XML file."""
        return {"path": self.path}

    def read(self, split: SourceSplit, identity_fields: Collection[str]) -> LayerContent | None:
        """Return the labels of the images of the split's subset.

        If no image has a subset, all images belong to the split whose name is in `path`, or to the first split of the
        source. Pixels are 0-based and exclusive. Rotated boxes, polygons, masks and ellipses become the boxes that
        enclose them; other shapes are counted.
        """
        path = split.path(self.path)
        content = LayerContent(file=split.fill(self.path))
        if not path.is_file():
            return None
        finding = partial(split.finding, file=content.file)
        tree = content.read_file(path, parse_xml, finding)
        if tree is None:
            return content
        renamed = correct_case(tree, _READ)
        if problem := _other_format(tree):
            content.findings.append(finding("broken_label_file", problem))
            return content
        elements = _images_of_split(tree, split, self.path)
        if not elements:
            return None
        for name, count in renamed.items():
            message = case_message(name, count, "CVAT")
            content.findings.append(finding("unknown_element", message, cause=f"case of {name}"))
        for label in tree.iterfind("meta//labels/label"):
            name = (label.findtext("name") or "").strip()
            if name and label.find("parent") is None:  # a label with a parent names points of a skeleton
                content.category_ids.setdefault(name, set())
        names = ImageNames.below(split.images_dir)
        skipped: Counter[str] = Counter()
        for element in elements:
            _read_image(element, names, content, identity_fields, skipped, finding)
        content.refuse_shapes(skipped, finding)
        return content


def _other_format(tree: ElementTree.Element) -> str | None:
    """Return why the document is not an export of images, or None."""
    if tree.tag != "annotations":
        return f"has the root <{tree.tag}>; the root of CVAT's files is <annotations>"
    if tree.find("track") is not None:
        return "has tracks, as 'CVAT for video 1.1' has; export the task as 'CVAT for images 1.1'"
    return None if tree.find("image") is not None else "has no <image>; export the task as 'CVAT for images 1.1'"


def _images_of_split(tree: ElementTree.Element, split: SourceSplit, pattern: str) -> list[ElementTree.Element]:
    default = (tree.findtext("meta/task/subset") or tree.findtext("meta/job/subset") or "").strip()
    images = [(element, element.get("subset", default).lower()) for element in tree.iterfind("image")]
    if all(subset in ("", "default") for _, subset in images):
        return [element for element, _ in images] if split.reads_undivided(pattern) else []
    wanted = split.name_on_disk.lower()
    return [element for element, subset in images if subset in (wanted, _SUBSET_NAMES.get(wanted))]


def _read_image(
    element: ElementTree.Element,
    names: ImageNames,
    content: LayerContent,
    identity_fields: Collection[str],
    skipped: Counter[str],
    finding: Callable[..., Finding],
) -> None:
    given = (element.get("name") or "").strip()
    if not given:
        content.findings.append(finding("broken_entry", "an <image> has no name"))
        return
    try:
        subset = element.get("subset", "")
        file_name = names.claim(names.find(given, subset), posixpath.join(subset, given))
    except AmbiguousImage as error:
        content.findings.append(finding("ambiguous_image", f"{error}; write the folders of images into their names"))
        return
    height, width = number_in(element.get("height")), number_in(element.get("width"))
    size_hw = (int(height), int(width)) if height and width and height > 0 and width > 0 else None
    if file_name in content.images:
        message = "is listed twice; the objects are merged"
        content.findings.append(finding("repeated_image", message, image=file_name))
    image = content.images.setdefault(file_name, FileImage(file_name, size_hw=size_hw, boxes=[]))
    assert image.boxes is not None
    for position, shape in enumerate(element):
        content.num_read += 1
        box = _box_of(shape)
        category = (shape.get("label") or "").strip()
        if box is None:
            skipped[shape.tag] += 1
        elif isinstance(box, str) or not category:
            message = box if isinstance(box, str) else f"the <{shape.tag}> has no label"
            content.refuse([finding("broken_entry", message, image=file_name, annotation_id=f"#{position}")])
        else:
            attributes = {one.get("name"): (one.text or "").strip() for one in shape.iterfind("attribute")}
            identities = {key: value for key in identity_fields if (value := attributes.get(key))}
            image.boxes.append(FileBox(None, category, box, identities=identities))
            content.category_ids.setdefault(category, set())


def _box_of(shape: ElementTree.Element) -> XYWH | str | None:
    """Return the box that encloses a shape, what is wrong with it, or None if the shape has no box."""
    if shape.tag == "polygon":
        return _polygon(shape.get("points") or "")
    if shape.tag not in _KEYS:
        return None
    rotation = number_in(shape.get("rotation", "0"))
    numbers = [number for key in _KEYS[shape.tag] if (number := number_in(shape.get(key))) is not None]
    if len(numbers) != 4 or rotation is None:
        shown = ", ".join(f"{key}={shape.get(key)!r}" for key in (*_KEYS[shape.tag], "rotation"))
        return f"the <{shape.tag}> has {shown}; write finite numbers"
    first, second, third, fourth = numbers
    if shape.tag == "mask":
        return first, second, third, fourth
    if shape.tag == "ellipse":
        return ellipse_box((first, second), (third, fourth), rotation)
    box = (first, second, third - first, fourth - second)
    return rotated_box(box, rotation, ((first + third) / 2, (second + fourth) / 2)) if rotation % 360 else box


def _polygon(points: str) -> XYWH | str:
    pairs = [[number_in(value) for value in point.split(",")] for point in points.split(";") if point.strip()]
    xs = [pair[0] for pair in pairs if len(pair) == 2 and pair[0] is not None]
    ys = [pair[1] for pair in pairs if len(pair) == 2 and pair[1] is not None]
    if len(pairs) < 3 or not len(xs) == len(ys) == len(pairs):
        return f"the <polygon> has the points {points[:60]!r}; write 'x,y' of at least three points, separated by ';'"
    return enclosing_box(xs, ys)
