"""Pascal VOC: one XML file for each image, lists of names as splits. Torch-free.

VOC pixels are 1-based and inclusive: xmin..xmax becomes x = xmin - 1, width = xmax - xmin + 1. A box with xmax <= xmin
is a click rather than a box (a real one-pixel object looks the same): its width becomes xmax - xmin, zero or less, so
that the check counts it as degenerate. `difficult` objects are used for training, and ignored in scoring.
"""

import math
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal
from xml.etree.ElementTree import Element

from pydantic import Field

from pipelines.base.findings import Finding
from pipelines.base.paths import IMAGE_SUFFIXES, RelativePath, below, is_ignored, normalized
from pipelines.formats.booleans import read_boolean
from pipelines.formats.box_numbers import BoxNumbers
from pipelines.formats.folder_contents import FolderContents, FolderReading
from pipelines.formats.layer import LabelKind, LabelLayer, confirmed_unit
from pipelines.formats.layer_content import FileBox, FileImage, LayerContent
from pipelines.formats.source_split import SourceSplit
from pipelines.formats.text_files import text_lines
from pipelines.formats.voc_recognition import recognize_voc
from pipelines.formats.voc_writer import VocWriter
from pipelines.formats.xml_files import case_message, correct_case, parse_xml, unknown_elements

_MakeFinding = Callable[..., Finding]
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_CHILDREN = {
    "annotation": {
        "filename", "folder", "object", "owner", "path", "segmented", "size", "source", "verified", "timestamp",
    },
    "bndbox": set(_CORNERS),
    "size": {"width", "height", "depth"},
}  # fmt: skip
"""The elements of VOC; an object may have any further attributes."""
_READ = {"annotation", "object", "name", "bndbox", "difficult", "filename", "size", "width", "height", *_CORNERS}
_SINGLE = ("name", "bndbox", "difficult", *(f"bndbox/{corner}" for corner in _CORNERS))
"""Elements that an object has at most once."""
_OTHER_ROOTS = {
    "annotations": "this is CVAT XML: use format: cvat",
    "html": "this is a web page, such as an error page that was saved in place of the file",
    "dataset": "this may be dlib's XML, which is not supported",
}


class VocLayer(LabelLayer):
    """Pascal VOC: one XML file for each image (1-based, inclusive pixels), image sets as lists of names."""

    GIVES: ClassVar[frozenset[LabelKind]] = frozenset({"boxes", "identities"})
    RECOGNIZED_BY: ClassVar[str] = "XML files with the root annotation"
    WRITER = VocWriter
    NUMBERS = BoxNumbers("xyxy", is_inclusive=True)

    format: Literal["voc"]
    path: RelativePath = Field("Annotations", description="folder of the XML files")
    image_sets: RelativePath | None = Field(
        "ImageSets/Main/{split}.txt", description="list of the names of a split; null: every XML file of the folder"
    )
    unit: Literal["pixels"] | None = confirmed_unit("pixels")

    @classmethod
    def recognize(cls, folder: FolderContents) -> list[FolderReading]:
        return recognize_voc(folder)

    def paths(self, images: str) -> dict[str, str]:
        """Return the image set, if there is one, and the folder of the XML files."""
        return ({"image_sets": self.image_sets} if self.image_sets else {}) | {"path": self.path}

    def read(self, split: SourceSplit, identity_fields: Collection[str]) -> LayerContent | None:
        """Return the labels of the XML files of the split's image set.

        Any child of an object that contains text can be its identity. A line of an image set may end in 1, 0 or -1, as
        in the sets by class; all of its images are listed. The image has the name of the XML file and the extension
        in `<filename>`, or else the extension of any image. Every class name of an object is a category, because VOC
        files do not declare their categories.
        """
        content = LayerContent(file=split.fill(self.listing(split.images)))
        path = split.path(content.file)
        if not (path.is_file() if self.image_sets else path.is_dir()):
            return None
        folder = split.fill(self.path)
        if self.image_sets:
            lines = content.read_file(path, text_lines, partial(split.finding, file=content.file)) or []
        else:
            lines = _files_in(path)
        for name in filter(None, map(_name_of, lines)):
            file = f"{folder}/{name}.xml"
            finding = partial(split.finding, file=file)
            try:
                path = below(split.root, file)
            except ValueError as error:
                content.findings.append(finding("unsafe_path", str(error), file=content.file))
                continue
            tree = _parse(path, content, finding)
            if tree is not None:
                _read_image(tree, name, file, split.images_dir, content, identity_fields, finding)
        return content


def _files_in(folder: Path) -> list[str]:
    """Return the names of all XML files below a folder, without `.xml`, except hidden ones."""
    paths = (path.relative_to(folder) for path in folder.rglob("*.xml"))
    return sorted(path.with_suffix("").as_posix() for path in paths if not is_ignored(path))


def _name_of(line: str) -> str:
    parts = line.split()
    return parts[0] if len(parts) == 2 and parts[1] in ("1", "0", "-1") else line.strip()


def _parse(path: Path, content: LayerContent, finding: _MakeFinding) -> Element | None:
    """Return the root of a VOC file with the names of VOC; None if it is missing or anything else."""
    if not path.is_file():
        content.findings.append(finding("missing_label_file", f"is missing, but {content.file} lists it"))
        return None
    tree = content.read_file(path, parse_xml, finding)
    if tree is None:
        return None
    renamed = correct_case(tree, _READ)
    if tree.tag != "annotation":
        hint = _OTHER_ROOTS.get(tree.tag, "write the file again, or remove it from the split")
        message = f"is not a VOC annotation: its root is <{tree.tag}>, and that of VOC is <annotation>; {hint}"
        content.findings.append(finding("broken_label_file", message))
        return None
    if not len(tree):
        message = "has an <annotation> without any element, so its image has no objects; write it again if it has some"
        content.findings.append(finding("empty_annotation", message))
    for name, count in renamed.items():
        message = case_message(name, count, "VOC")
        content.findings.append(finding("unknown_element", message, cause=f"case of {name}"))
    for name, count in unknown_elements(tree, _CHILDREN, read="object").items():
        message = f"has the unknown element <{name}> ({count}), which is not read"
        content.findings.append(finding("unknown_element", message, cause=f"unknown {name}"))
    return tree


def _read_image(
    tree: Element,
    name: str,
    label_file: str,
    images_dir: Path,
    content: LayerContent,
    identity_fields: Collection[str],
    finding: _MakeFinding,
) -> None:
    file_name = normalized(name + _suffix_of(tree, name, images_dir))
    if file_name in content.images:
        content.findings.append(
            finding("repeated_image", "is listed twice; remove one entry", file=content.file, image=file_name)
        )
        return
    height, width = _number(tree.findtext("size/height")), _number(tree.findtext("size/width"))
    size_hw = (int(height), int(width)) if height and width and height > 0 and width > 0 else None
    image = FileImage(file_name, None, size_hw, boxes=[], label_file=label_file)
    content.images[file_name] = image
    refused: list[Finding] = []
    for position, element in enumerate(tree.iter("object")):
        content.num_read += 1
        box = _read_object(element, identity_fields)
        if isinstance(box, str):
            refused.append(finding("broken_entry", box, image=file_name, annotation_id=f"#{position}"))
            continue
        assert image.boxes is not None
        image.boxes.append(box)
        content.category_ids.setdefault(box.category, set())
    content.refuse(refused)


def _suffix_of(tree: Element, name: str, images_dir: Path) -> str:
    """Return the extension in `<filename>` if that file exists, or else that of any image with this name."""
    named = Path(tree.findtext("filename") or "").suffix
    candidates = [suffix for suffix in (named, ".jpg", *sorted(IMAGE_SUFFIXES)) if suffix]
    candidates += [suffix.upper() for suffix in sorted(IMAGE_SUFFIXES)]
    for suffix in candidates:
        try:
            if below(images_dir, name + suffix).is_file():
                return suffix
        except ValueError:
            continue
    return candidates[0]


def _read_object(element: Element, identity_fields: Collection[str]) -> FileBox | str:
    """Return the object, or a message about what is wrong with it."""
    if repeated := [path for path in _SINGLE if len(element.findall(path)) > 1]:
        name = repeated[0].rpartition("/")[2]
        return f"the object has {len(element.findall(repeated[0]))} <{name}>; keep one, or write an <object> for each"
    category = (element.findtext("name") or "").strip()
    if not category:
        return "the object has no <name>"
    texts = [element.findtext(f"bndbox/{corner}") for corner in _CORNERS]
    numbers = [number for text in texts if (number := _number(text)) is not None]
    if len(numbers) != 4:
        shown = ", ".join(f"{corner}={text!r}" for corner, text in zip(_CORNERS, texts, strict=True))
        return f"the <bndbox> has {shown}; write four finite numbers"
    x_min, y_min, x_max, y_max = numbers
    is_difficult = read_boolean(element.findtext("difficult"))
    if is_difficult is None:
        return f"<difficult> is {element.findtext('difficult')!r}; write 0 or 1"
    identities = {key: text for key in identity_fields if (text := (element.findtext(key) or "").strip())}
    return FileBox(
        annotation_id=None,
        category=category,
        bbox_xywh=(x_min - 1, y_min - 1, _length(x_min, x_max), _length(y_min, y_max)),
        is_difficult=is_difficult,
        identities=identities,
    )


def _length(first_px: float, last_px: float) -> float:
    """Return the length of a run of pixels that includes both ends; zero or less for a click, see the module."""
    return last_px - first_px + 1 if last_px > first_px else last_px - first_px


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
