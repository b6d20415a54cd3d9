"""Recognize YOLO data sets, with or without their YAML file. Torch-free."""

import itertools
import os
import posixpath
import re
from pathlib import Path

from pipelines.base.records import SPLITS, Split
from pipelines.formats.folder_contents import FolderContents, FolderReading, sample, split_of
from pipelines.formats.yolo_yaml import BrokenYaml, YoloYaml, label_file_of, read_yolo_yaml

MAX_FILES = 20
_ROW = re.compile(r"\s*(\d+)((?:\s+[-+.\deE]+){4,})\s*")
_CLASS_FILES = ("classes.txt", "obj.names", "labels.txt")


def recognize_yolo(folder: FolderContents) -> list[FolderReading]:
    """Return a reading for each YAML file with class names and images; without one, for images with labels beside
    them, for which the YAML file must be written."""
    readings = [
        reading
        for file in folder.with_suffix(".yaml", ".yml")[:MAX_FILES]
        if (reading := _with_yaml(folder, file)) is not None
    ]
    return sorted(readings, key=lambda reading: -reading.num_images) or _without_yaml(folder)


def _with_yaml(folder: FolderContents, file: str) -> FolderReading | None:
    try:
        document = read_yolo_yaml(folder.root, folder.root / file, file)
    except BrokenYaml:
        return None
    if not document.names:
        return None
    images: dict[Split, set[str]] = {}
    for split in SPLITS:
        if found := _images_of(folder, document, split) - images.get("train", set()):
            images[split] = found
    if "train" not in images:
        entries = document.entries("train")
        folder.notes.append(f"{file} is YOLO, but its training images ({entries}) are not in the folder")
        return None
    num_images = sum(map(len, images.values()))
    place = _common_folder(folder, images)
    reason = f"{file}: YOLO with {len(document.names)} classes and {num_images} images of {', '.join(images)}"
    return FolderReading("yolo", {"path": file}, place, {split: split for split in images}, True, num_images, reason)


def _images_of(folder: FolderContents, document: YoloYaml, split: str) -> set[str]:
    found: set[str] = set()
    for entry in document.entries(split):
        try:
            place = document.locate(entry).path
        except (FileNotFoundError, ValueError, OSError):
            continue
        path = folder.root / place
        if path.is_file():
            found |= set(_listed(folder, path))
        else:
            start = "" if place == "." else f"{posixpath.normpath(place)}/"
            found |= {image for image in folder.images if image.startswith(start)}
    return found


def _listed(folder: FolderContents, path: Path) -> list[str]:
    """Return the images of the folder whose names are in a list of paths."""
    lines = path.read_text("utf-8", errors="replace").splitlines()
    names = {line.strip().replace("\\", "/").rpartition("/")[2] for line in lines if line.strip()}
    return [image for image in folder.images if posixpath.basename(image) in names]


def _common_folder(folder: FolderContents, images: dict[Split, set[str]]) -> str:
    return os.path.commonpath([posixpath.dirname(image) for found in images.values() for image in found]) or "."


def _without_yaml(folder: FolderContents) -> list[FolderReading]:
    labels = set(folder.with_suffix(".txt"))
    labeled = [image for image in folder.images if label_file_of(image) in labels]
    rows = [match for image in sample(labeled) if (match := _row(folder, label_file_of(image)))]
    if not rows:
        return []
    places: dict[str, list[str]] = {}
    for image in labeled:
        place = posixpath.dirname(image) or "."
        places.setdefault(place, []).append(image)
    by_split: dict[Split, list[str]] = {}
    for place in places:
        named = [split for part in reversed(place.split("/")) if (split := split_of(part)) is not None]
        by_split.setdefault(named[0] if named else "train", []).append(place)
    if "train" not in by_split:
        by_split = {"train": list(places)}
    names = _class_names(folder, labeled)
    lines = ["# Written by `pyramidion init`: the folder had no YAML file. Change the names of the classes here."]
    for split in SPLITS:
        if split in by_split:
            entries = by_split[split]
            lines.append(f"{split}: {entries[0]!r}" if len(entries) == 1 else f"{split}: {entries}")
    lines += ["names:", *(f"  {number}: {name!r}" for number, name in enumerate(names))]
    images = {split: {i for place in by_split[split] for i in places[place]} for split in SPLITS if split in by_split}
    names_of_files = itertools.chain(["data.yaml"], (f"yolo_{number}.yaml" for number in itertools.count(1)))
    file = next(name for name in names_of_files if name not in folder.files)
    reason = f"{len(labeled)} images with YOLO labels beside them, and no YAML file"
    return [
        FolderReading(
            "yolo",
            {"path": file},
            _common_folder(folder, images),
            {split: split for split in images},
            True,
            len(labeled),
            reason,
            {file: "\n".join(lines) + "\n"},
        )
    ]


def _row(folder: FolderContents, file: str) -> re.Match[str] | None:
    lines = folder.read_start(file).splitlines()
    return _ROW.fullmatch(lines[0]) if lines else None


def _class_names(folder: FolderContents, labeled: list[str]) -> list[str]:
    """Return the names in a file that annotation tools write, or else names made of the numbers in the labels."""
    for file in folder.files:
        if posixpath.basename(file) in _CLASS_FILES:
            names = [line.strip() for line in folder.read_start(file).splitlines() if line.strip()]
            if names and not any(map(_ROW.fullmatch, names)):
                return names
    ids = [
        int(match[1])
        for image in labeled
        for line in folder.read_start(label_file_of(image)).splitlines()
        if (match := _ROW.fullmatch(line))
    ]
    return [f"class_{number}" for number in range(max(ids, default=0) + 1)]
