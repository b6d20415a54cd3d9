"""Recognize exports of Datumaro. Torch-free."""

from typing import Any

from pipelines.formats.folder_contents import FolderContents, FolderReading
from pipelines.formats.label_files import LabelFile, read_label_files

KINDS = ("bbox", "polygon", "mask", "ellipse")


def recognize_datumaro(folder: FolderContents) -> list[FolderReading]:
    """Return the readings of all JSON files with items and categories."""

    def examine(file: str) -> LabelFile | None:
        document = folder.read_json(file)
        if not isinstance(document, dict) or not isinstance(document.get("items"), list):
            return None
        items = [item for item in document["items"] if isinstance(item, dict) and isinstance(item.get("id"), str)]
        if not items or not isinstance(document.get("categories"), dict):
            return None
        annotations = [one for item in items for one in _list(item.get("annotations")) if isinstance(one, dict)]
        num_boxes = sum(one.get("type") in KINDS for one in annotations)
        return LabelFile([_name(item) for item in items], num_boxes)

    return read_label_files(folder, "datumaro", folder.with_suffix(".json"), examine, "Datumaro", own_names=True)


def _name(item: dict[str, Any]) -> str:
    media: dict[str, Any] = next((item[key] for key in ("image", "media") if isinstance(item.get(key), dict)), {})
    path = media.get("path")
    return path if isinstance(path, str) and path else str(item["id"])


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
