"""Recognize COCO files. Torch-free."""

from collections.abc import Collection, Sequence
from typing import Any

from pipelines.formats.folder_contents import FolderContents, FolderReading
from pipelines.formats.label_files import LabelFile, read_label_files


def recognize_coco(folder: FolderContents) -> list[FolderReading]:
    """Return the readings of all JSON files with images, annotations and categories, such as Roboflow's
    `train/_annotations.coco.json`."""

    def examine(file: str) -> LabelFile | None:
        document = folder.read_json(file)
        if not isinstance(document, dict) or not all(
            isinstance(document.get(key), list) for key in ("images", "annotations", "categories")
        ):
            return None
        entries = [entry for entry in document["images"] if isinstance(entry, dict)]
        names = [entry["file_name"] for entry in entries if isinstance(entry.get("file_name"), str)]
        boxes = [
            annotation
            for annotation in document["annotations"]
            if isinstance(annotation, dict) and (annotation.get("bbox") or annotation.get("segmentation"))
        ]
        groups = _group_classes(document["categories"], {str(box.get("category_id")) for box in boxes})
        return LabelFile(names, len(boxes), group_classes=groups) if names and boxes else None

    return read_label_files(folder, "coco", folder.with_suffix(".json"), examine, "COCO")


def _group_classes(categories: Sequence[Any], used_ids: Collection[str]) -> frozenset[str]:
    """Return the names of categories that have no boxes and are the supercategory of another one."""
    entries = [entry for entry in categories if isinstance(entry, dict) and isinstance(entry.get("name"), str)]
    groups = [entry.get("supercategory") for entry in entries if entry.get("supercategory") != entry["name"]]
    return frozenset(
        entry["name"] for entry in entries if entry["name"] in groups and str(entry.get("id")) not in used_ids
    )
