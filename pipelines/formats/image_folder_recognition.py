"""Recognize folders of images by class. Torch-free."""

import posixpath
from collections import Counter

from pipelines.base.records import SPLITS, Split
from pipelines.formats.folder_contents import FolderContents, FolderReading, split_of

GENERIC = frozenset(
    {"images", "image", "imgs", "img", "jpegimages", "labels", "masks", "annotations", "data", "photos"}
)
"""Names of folders that do not name a class."""


def recognize_image_folder(folder: FolderContents) -> list[FolderReading]:
    """Return the reading `<split>/<class>/<image>`, or `<class>/<image>` without splits."""
    places = Counter(tuple(file.split("/")[:-1]) for file in folder.images)
    if not places:
        return []
    prefix = posixpath.commonprefix([list(place) for place in places])
    start = len(prefix)
    if start and split_of(prefix[-1]) == "train":
        start -= 1  # only the folder of train exists
    images = "/".join(prefix[:start]) or "."
    splits: dict[Split, str] = {}
    classes: Counter[str] = Counter()
    for place, count in places.items():
        inner = place[start:]
        if len(inner) >= 2 and (split := split_of(inner[0])) is not None:
            splits.setdefault(split, inner[0])
            classes[inner[1]] += count
    total = sum(places.values())
    if "train" in splits and classes.total() > 0.5 * total and _are_classes(classes):
        names = {split: splits[split] for split in SPLITS if split in splits}
        reason = (
            f"{images}: folders {', '.join(names.values())} with {classes.total()} images in {len(classes)} classes"
        )
        return [FolderReading("image_folder", {"path": "{split}"}, images, names, False, classes.total(), reason)]
    classes = Counter({place[len(prefix)]: 0 for place in places if len(place) > len(prefix)})
    for place, count in places.items():
        if len(place) > len(prefix):
            classes[place[len(prefix)]] += count
    if classes.total() <= 0.5 * total or not _are_classes(classes):
        return []
    images = "/".join(prefix) or "."
    reason = f"{images}: {classes.total()} images in {len(classes)} folders, which are the classes"
    return [FolderReading("image_folder", {"path": "."}, images, {"train": "train"}, False, classes.total(), reason)]


def _are_classes(names: Counter[str]) -> bool:
    return len(names) > 1 and not all(name.lower() in GENERIC or split_of(name) for name in names)
