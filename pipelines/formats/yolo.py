"""YOLO: a YAML file with class names and folders of images, and one text file of labels for each image. Torch-free."""

import posixpath
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from pipelines.base.paths import RelativePath, below
from pipelines.formats.box_numbers import BoxNumbers
from pipelines.formats.folder_contents import FolderContents, FolderReading
from pipelines.formats.layer import LabelKind, LabelLayer, confirmed_unit
from pipelines.formats.layer_content import FileImage, LayerContent
from pipelines.formats.source_split import SourceSplit
from pipelines.formats.text_files import text_lines
from pipelines.formats.yolo_labels import YoloLabels
from pipelines.formats.yolo_recognition import recognize_yolo
from pipelines.formats.yolo_writer import YoloWriter
from pipelines.formats.yolo_yaml import (
    UNSUPPORTED_IMAGES,
    BrokenYaml,
    YoloYaml,
    images_below,
    is_absolute,
    joined,
    label_file_of,
    read_yolo_yaml,
)


class YoloLayer(LabelLayer):
    """YOLO: boxes or polygons in `labels/`, parallel to `images/`; the YAML file names the images of each split."""

    GIVES: ClassVar[frozenset[LabelKind]] = frozenset({"boxes"})
    NUMBERS = BoxNumbers("cxcywh", scale=1)
    RECOGNIZED_BY: ClassVar[str] = "a YAML file with names and train, or a .txt file of rows for each image"
    WRITER = YoloWriter

    format: Literal["yolo"]
    path: RelativePath = Field("data.yaml", description="the YAML file of the data set")
    unit: Literal["relative"] | None = confirmed_unit("relative")

    @classmethod
    def recognize(cls, folder: FolderContents) -> list[FolderReading]:
        return recognize_yolo(folder)

    def paths(self, images: str) -> dict[str, str]:
        """Return the YAML file; it names the folders of the images."""
        return {"path": self.path}

    def read(self, split: SourceSplit, identity_fields: Collection[str]) -> LayerContent | None:
        """Return the labels of the split's images, which the entry of the YAML file with the split's name lists.

        An image without a label file has no objects. Polygons become boxes. Class ids are kept.
        """
        path = split.path(self.path)
        content = LayerContent(file=split.fill(self.path))
        if not path.is_file():
            return None
        try:
            document = read_yolo_yaml(split.root, path, content.file)
        except BrokenYaml as error:
            content.findings.append(split.finding("broken_label_file", str(error), file=content.file))
            return content
        entries = document.entries(split.name_on_disk)
        if not entries:
            return None
        content.declare(document.names.items(), partial(split.finding, file=content.file))
        labels = YoloLabels(split, document, content)
        for entry in entries:
            images = list(_images_of(entry, document, split, content))
            outside = [image for image in images if _file_name(image, split) is None]
            if outside:
                message = (
                    f"{entry!r} has {len(outside)} images outside of the images folder {split.fill(split.images)!r}, "
                    f"such as {outside[0]!r}; write the folder that contains them, such as '.', as "
                    f"data.sources.{split.source_name}.images"
                )
                content.findings.append(split.finding("missing_image", message, file=content.file))
            for image in images:
                _add(image, split, labels, content)
        labels.report()
        return content


def _add(image: str, split: SourceSplit, labels: YoloLabels, content: LayerContent) -> None:
    """Add an image, given relative to the data root, with its labels."""
    file_name = _file_name(image, split)
    if file_name is None:
        return
    if file_name in content.images:
        content.findings.append(
            split.finding("repeated_image", "is listed twice; remove one entry", file=content.file, image=file_name)
        )
        return
    label_file = label_file_of(image)
    boxes = labels.read(image, label_file, file_name)
    content.images[file_name] = FileImage(file_name, boxes=boxes, label_file=label_file)


def _file_name(image: str, split: SourceSplit) -> str | None:
    """Return the name of an image relative to the source's images folder, or None if it is outside of it."""
    folder = posixpath.normpath(split.fill(split.images))
    if folder == ".":
        return image
    return image.removeprefix(f"{folder}/") if image.startswith(f"{folder}/") else None


def _images_of(entry: str, document: YoloYaml, split: SourceSplit, content: LayerContent) -> Iterator[str]:
    """Yield the images of an entry, relative to the data root; report an entry that cannot be read."""

    def report(kind: str, message: str, file: str = content.file) -> None:
        content.findings.append(split.finding(kind, message, file=file))

    try:
        place = document.locate(entry)
        path = below(split.root, place.path)
    except FileNotFoundError as error:
        report("missing_image", f"the entry {entry!r} of the split {split.name_on_disk!r} is missing: {error}")
        return
    except ValueError as error:
        report("unsafe_path", f"the split {split.name_on_disk!r} {error}")
        return
    except OSError as error:
        report("missing_image", f"the entry {entry!r} cannot be read ({error.strerror})")
        return
    if place.is_moved:
        message = (
            f"has the 'path' {document.path!r}, which is missing here; {place.path!r} is used for {entry!r}. "
            "Remove 'path', or write it relative to the YAML file"
        )
        report("moved_data_set", message)
    if path.is_dir():
        yield from _images_in_folder(place.path, path, split, content)
    elif path.suffix.lower() == ".txt":
        yield from _images_in_list(place.path, path, document, split, content)
    else:
        report("broken_label_file", f"names {entry!r} as images; write a folder, or a .txt file with paths of images")


def _images_in_folder(place: str, path: Path, split: SourceSplit, content: LayerContent) -> Iterator[str]:
    unsupported: list[str] = []
    for name in images_below(path):
        if posixpath.splitext(name)[1].lower() in UNSUPPORTED_IMAGES:
            unsupported.append(name)
        else:
            yield posixpath.normpath(f"{place}/{name}")
    if unsupported:
        message = f"has {len(unsupported)} images of unsupported formats; convert them to JPEG or PNG"
        content.findings.append(split.finding("other_file", message, file=place, image=unsupported[0]))


def _images_in_list(
    place: str, path: Path, document: YoloYaml, split: SourceSplit, content: LayerContent
) -> Iterator[str]:
    """Yield the images that a text file names, relative to itself, the data set, or a folder above that."""
    lines = content.read_file(path, text_lines, partial(split.finding, file=place)) or []
    bases = list(dict.fromkeys([posixpath.dirname(place) or ".", *document.bases()]))
    unsafe: list[int] = []
    for number, line in enumerate(lines, start=1):
        entry = line.strip().replace("\\", "/")
        if not entry:
            continue
        image = None if is_absolute(entry) or "\0" in entry else _listed_image(entry, bases, split.root)
        if image is None:
            unsafe.append(number)
        else:
            yield image
    if unsafe:
        message = (
            f"line {unsafe[0]} is {lines[unsafe[0] - 1]!r}, which is absolute or leads out of the data root "
            f"({len(unsafe)} lines); write paths relative to this file"
        )
        content.findings.append(split.finding("unsafe_path", message, file=place))


def _listed_image(entry: str, bases: list[str], root: Path) -> str | None:
    """Return the first place of an image that exists, or else the first place; None if all lead out of the root.

    Folders at the start of the entry are omitted if nothing exists with them, because lists often name the data set.
    """
    parts = posixpath.normpath(entry).split("/")
    first: str | None = None
    for start in range(max(1, len(parts) - 1)):
        places = [place for base in bases if (place := joined(base, "/".join(parts[start:]))) is not None]
        if start == 0 and places:
            first = places[0]
        for place in places:
            try:
                if (root / place).is_file():
                    return place
            except OSError:
                continue
    return first
