"""Recognition of formats with one label file for all images, or one for each split. Torch-free."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.base.records import Split
from pipelines.formats.folder_contents import FolderContents, FolderReading, common_images, split_families

MAX_FILES = 40
"""Files that are examined; a folder with more has one for each image, which no format here has."""


@dataclass(frozen=True)
class LabelFile:
    """A label file that was recognized.

    Attributes:
        file_names: the images that it lists.
        num_labels: the number of boxes or classes.
        splits: the splits that the file divides its images into, by their names in the file.
        group_classes: classes without labels that name a group of others, such as the project of a Roboflow export.
    """

    file_names: list[str]
    num_labels: int
    splits: Mapping[Split, str] = field(default_factory=dict)
    group_classes: frozenset[str] = frozenset()


def read_label_files(
    folder: FolderContents,
    format_: str,
    files: Iterable[str],
    examine: Callable[[str], LabelFile | None],
    title: str,
    *,
    own_names: bool = False,
) -> list[FolderReading]:
    """Return the readings of files of one format, those with most labels first.

    Args:
        folder: the folder.
        format_: name of the format, whose layer has the field `path`.
        files: the candidates.
        examine: returns the content of a file, or None if it has another format.
        title: name of the format in messages.
        own_names: the format names images in its own way (see `ImageNames`), and not by paths.
    """
    found = {file: content for file in list(files)[:MAX_FILES] if (content := examine(file)) is not None}
    readings: list[tuple[int, FolderReading]] = []
    for family in split_families(found):
        contents = {split: found[family.path(split)] for split in family.names}
        folders: dict[Split, str] = {}
        for split, content in contents.items():
            names = content.file_names
            subset = family.names[split]
            place = folder.folder_of_named(names, subset) if own_names else folder.images_folder(names, subset)
            if place is not None:
                folders[split] = place
        images = common_images(folders, family.names) if "train" in folders else None
        if images is None:
            file_name = contents["train"].file_names[0]
            problem = f"its images (such as {file_name!r}) are not in the folder"
            if "train" in folders:
                places = " and ".join(folders.values())
                problem = f"the images of its splits are in {places}, which differ in more than the name of the split"
            folder.notes.append(f"{family.path('train')} is {title}, but {problem}")
            continue
        splits: Mapping[Split, str] = {split: family.names[split] for split in folders}
        num_images = sum(len(contents[split].file_names) for split in splits)
        num_labels = sum(contents[split].num_labels for split in splits)
        reason = (
            f"{family.pattern}: {title} with {num_images} images and {num_labels} boxes; the images are in {images}"
        )
        if len(contents) == 1 and "train" in contents["train"].splits:
            splits = contents["train"].splits
            reason += f"; its subsets are {', '.join(splits.values())}"
        fields: dict[str, Any] = {"path": family.pattern}
        if groups := sorted(frozenset.intersection(*(content.group_classes for content in contents.values()))):
            fields["classes"] = dict.fromkeys(groups)
            reason += f"; omitted because it only names a group of classes: {', '.join(groups)}"
        reading = FolderReading(format_, fields, images, splits, True, num_images, reason)
        readings.append((num_labels, reading))
    return [reading for _, reading in sorted(readings, key=lambda pair: -pair[0])]
