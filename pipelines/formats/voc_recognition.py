"""Recognize Pascal VOC files. Torch-free."""

import posixpath
import re

from pipelines.base.records import Split
from pipelines.formats.folder_contents import (
    FolderContents,
    FolderReading,
    common_images,
    sample,
    split_families,
    split_of,
)

_ROOT = re.compile(r"^\s*(?:<\?xml[^>]*\?>)?\s*(?:<!--.*?-->\s*)*<annotation[\s>]", re.DOTALL)
MAX_LIST_BYTES = 1 << 24
MAX_CHECKED = 5
"""Files of a folder whose content is looked at."""


def recognize_voc(folder: FolderContents) -> list[FolderReading]:
    """Return a reading for each folder of XML files with the root `annotation`, with image sets if there are some."""
    by_folder: dict[str, list[str]] = {}
    for file in folder.with_suffix(".xml"):
        by_folder.setdefault(posixpath.dirname(file) or ".", []).append(file)
    labels = {
        place: files
        for place, files in by_folder.items()
        if all(_ROOT.match(folder.read_start(file, 2000)) for file in sample(files, MAX_CHECKED))
    }
    readings: list[FolderReading] = []
    for family in split_families(labels):
        files = {split: labels[family.path(split)] for split in family.names}
        folders: dict[Split, str] = {}
        for split in family.names:
            place = _images_of(folder, files[split], family.names[split])
            if place is not None:
                folders[split] = place
        if (images := common_images(folders, family.names) if "train" in folders else None) is None:
            folder.notes.append(f"{family.path('train')} has Pascal VOC files, but their images are not in the folder")
            continue
        num_images = sum(map(len, files.values()))
        title = f"{family.pattern}: {num_images} Pascal VOC files; the images are in {images}"
        splits = {split: family.names[split] for split in folders}
        sets = _image_sets(folder, family.pattern, len(files["train"])) if splits == {"train": "train"} else None
        if sets is not None:
            pattern, splits, num_images = sets
            title += f"; {pattern} lists the images of {', '.join(splits)}"
        else:
            pattern = None
        fields = {"path": family.pattern, "image_sets": pattern}
        readings.append(FolderReading("voc", fields, images, splits, True, num_images, title))
    return readings


def _images_of(folder: FolderContents, files: list[str], split_name: str) -> str | None:
    """Return the folder of the images that have the names of these XML files."""
    names = [posixpath.splitext(posixpath.basename(file))[0] for file in sample(files)]
    images = [posixpath.basename(path) for name in names for path in folder.stems.get(name, ())]
    return folder.images_folder(images, split_name)


def _image_sets(folder: FolderContents, labels: str, num_files: int) -> tuple[str, dict[Split, str], int] | None:
    """Return the pattern of the image sets beside a folder of XML files, their splits and the number of their lines."""
    parent = posixpath.dirname(labels)
    start = posixpath.join(parent, "ImageSets", "") if parent else "ImageSets/"
    found: dict[str, dict[Split, str]] = {}
    lines: dict[tuple[str, Split], int] = {}
    for file in folder.with_suffix(".txt"):
        stem = posixpath.splitext(posixpath.basename(file))[0]
        split = split_of(stem)
        if file.startswith(start) and split is not None:
            pattern = posixpath.join(posixpath.dirname(file), "{split}.txt")
            names = found.setdefault(pattern, {})
            # `trainval` contains val: it is used only where there is no `train`.
            if split not in names or names[split] == "trainval":
                names[split] = stem
                lines[pattern, split] = len(folder.read_start(file, MAX_LIST_BYTES).split())
    usable = {pattern: names for pattern, names in found.items() if "train" in names}
    if not usable:
        return None
    pattern = min(usable, key=lambda pattern: ("/Main/" not in pattern, -len(usable[pattern]), pattern))
    order: tuple[Split, ...] = ("train", "val", "test")
    splits = {split: usable[pattern][split] for split in order if split in usable[pattern]}
    return pattern, splits, min(num_files, sum(lines[pattern, split] for split in splits))
