"""Recognize COCO files. Torch-free."""

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
        return LabelFile(names, len(boxes)) if names and boxes else None

    return read_label_files(folder, "coco", folder.with_suffix(".json"), examine, "COCO")
