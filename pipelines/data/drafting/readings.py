"""Find the ways in which a folder can be read, and choose one. Torch-free."""

import posixpath
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipelines.base.errors import DataError, FieldProblem
from pipelines.base.links import FOLLOW_LINKS_OPTION
from pipelines.formats.catalog import FORMATS, name_of
from pipelines.formats.folder_contents import FolderContents, FolderReading

ARCHIVE_SUFFIXES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"})
FEW = 0.1
"""A reading with a smaller share of the images than this comes after all others."""


def find_readings(folder: Path) -> list[FolderReading]:
    """Return all readings of a folder, the best one first: boxes before classes, then by the number of images.

    Raises:
        DataError: no format is recognized; the message lists the files that were found.
    """
    if not folder.is_dir():
        raise DataError(FieldProblem(str(folder), _not_a_folder(folder)))
    contents = FolderContents(folder)
    readings = [reading for layer in FORMATS for reading in layer.recognize(contents)]
    if not readings:
        raise DataError(_problems(folder, contents))
    most = max(reading.num_images for reading in readings)
    return sorted(readings, key=lambda found: (found.num_images < FEW * most, not found.has_boxes, -found.num_images))


def _not_a_folder(path: Path) -> str:
    if not path.exists():
        return "does not exist; name the folder that contains images and labels"
    if path.suffix.lower() in ARCHIVE_SUFFIXES:
        return "is an archive; unpack it, and name the folder that contains images and labels"
    return "is not a folder; name the folder that contains images and labels"


def _problems(folder: Path, contents: FolderContents) -> list[FieldProblem]:
    found = Counter(posixpath.splitext(file)[1].lower() or "no extension" for file in contents.files)
    shown = ", ".join(f"{count} {suffix}" for suffix, count in found.most_common(8)) or "no files"
    if not contents.images:
        message = f"has no images (it has {shown}); name the folder that contains images and labels"
    else:
        message = (
            f"has {len(contents.images)} images, but no labels of a known format (it has {shown}); add the labels that "
            "an annotation tool exports, or a folder for each class"
        )
    problems = [FieldProblem(str(folder), message)]
    problems += [FieldProblem(str(folder), note) for note in contents.notes]
    if contents.links:
        links = ", ".join(contents.links[:3])
        problems.append(
            FieldProblem(str(folder), f"links to folders are not followed: {links}; add {FOLLOW_LINKS_OPTION}")
        )
    looked_for = [
        FieldProblem("", f"looked for {name_of(layer)}: {layer.RECOGNIZED_BY}")
        for layer in FORMATS
        if layer.RECOGNIZED_BY
    ]
    return [*problems, *looked_for]


def choose(readings: Sequence[FolderReading], number: int | None) -> FolderReading:
    """Return the reading with a number, which counts from 1; the first one by default.

    Raises:
        DataError: the number of the reading is invalid.
    """
    if number is not None and not 1 <= number <= len(readings):
        shown = "; ".join(f"{position}: {reading.reason}" for position, reading in enumerate(readings, start=1))
        raise DataError(FieldProblem("--reading", f"got {number}; choose one of {shown}"))
    return readings[(number or 1) - 1]
