"""Pascal VOC is written: one XML file for each image, and lists of names as splits. Torch-free."""

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

from pipelines.base.records import BoxLabel
from pipelines.formats.writer import NOT_IN_XML, LabelWriter, WritableData, WrittenImage, without_blanks

_ELEMENT_NAME = re.compile(r"[A-Za-z_][\w.-]*")
_OWN_ELEMENTS = frozenset({"name", "difficult", "bndbox", "pose", "truncated"})


class VocWriter(LabelWriter):
    """Writes boxes in whole pixels, the flag `difficult`, and identities as an element of the object."""

    IMAGES = "JPEGImages"

    def valid_name(self, file_name: str) -> str:
        """Return the name without blanks, which separate columns in image sets."""
        return without_blanks(super().valid_name(file_name))

    def keeps(self, text: str) -> bool:
        """Return whether XML can contain the text."""
        return super().keeps(text) and NOT_IN_XML.search(text) is None

    def write(self, data: WritableData) -> dict[str, Any]:
        """Write `Annotations` and `ImageSets/Main`.

        Boxes whose rounding would leave a single pixel keep their fractions, because VOC cannot tell a box of one pixel
        from a click; boxes of at most one pixel, crowd regions, areas and classes without objects are lost.
        """
        field = data.identity_field or ""
        has_identities = bool(_ELEMENT_NAME.fullmatch(field)) and field not in _OWN_ELEMENTS
        used: set[str] = set()
        for split, images in data.images.items():
            stems = [image.file_name.rpartition(".")[0] for image in images]
            data.write_text(f"ImageSets/Main/{split}.txt", "".join(f"{stem}\n" for stem in stems))
            for image, stem in zip(images, stems, strict=True):
                tree = _annotation(image, data, field if has_identities else None, used)
                ElementTree.indent(tree)
                text = ElementTree.tostring(tree, encoding="unicode")
                data.write_text(f"Annotations/{stem}.xml", text + "\n")
        unused = [category.name for category in data.categories if category.name not in used]
        data.count_lost(f"classes without objects ({', '.join(unused[:5])})", len(unused))
        return {"format": "voc"}


def _annotation(image: WrittenImage, data: WritableData, field: str | None, used: set[str]) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    _add(root, "folder", VocWriter.IMAGES)
    _add(root, "filename", image.file_name.rpartition("/")[2])
    size = ElementTree.SubElement(root, "size")
    _add(size, "width", str(image.record.width))
    _add(size, "height", str(image.record.height))
    _add(size, "depth", "3")
    for box in image.boxes:
        corners = _corners(box)
        if box.is_crowd or corners is None:
            data.count_lost("crowd regions" if box.is_crowd else "boxes of at most one pixel")
            continue
        data.count_lost("areas of objects", int(box.area is not None))
        data.count_lost("identities", int(box.identity is not None and field is None))
        used.add(box.category)
        element = ElementTree.SubElement(root, "object")
        _add(element, "name", box.category)
        _add(element, "difficult", str(int(box.is_difficult)))
        if field is not None and box.identity is not None:
            _add(element, field, box.identity)
        bounds = ElementTree.SubElement(element, "bndbox")
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
            _add(bounds, key, f"{value:.10g}")
    return root


def _corners(box: BoxLabel) -> tuple[float, float, float, float] | None:
    """Return the 1-based, inclusive corners, or None for a box of at most one pixel."""
    x, y, width, height = box.bbox_xywh
    if width <= 1 or height <= 1:
        return None
    left, right = _side(x, x + width)
    top, bottom = _side(y, y + height)
    return left, top, right, bottom


def _side(start: float, end: float) -> tuple[float, float]:
    first, last = round(start) + 1, round(end)
    return (first, last) if last > first else (start + 1, end)


def _add(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = text
