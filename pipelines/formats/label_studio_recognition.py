"""Recognize exports of Label Studio. Torch-free."""

from pathlib import PurePosixPath
from typing import Any

from pipelines.base.paths import IMAGE_SUFFIXES
from pipelines.formats.folder_contents import FolderContents, FolderReading
from pipelines.formats.image_names import path_of
from pipelines.formats.label_files import LabelFile, read_label_files


def recognize_label_studio(folder: FolderContents) -> list[FolderReading]:
    """Return the readings of all JSON files that are lists of tasks with data and annotations."""

    def examine(file: str) -> LabelFile | None:
        tasks = folder.read_json(file)
        if not isinstance(tasks, list):
            return None
        if any(isinstance(task, dict) and {"annotator", "annotation_id"} <= set(task) for task in tasks):
            folder.notes.append(f"{file} is Label Studio's 'JSON-MIN'; export the project as 'JSON'")
            return None
        valid = [task for task in tasks if isinstance(task, dict) and isinstance(task.get("data"), dict)]
        valid = [task for task in valid if "annotations" in task or "completions" in task]
        names = [name for task in valid if (name := _image_of(task["data"]))]
        return LabelFile(names, sum(map(_num_regions, valid))) if names else None

    return read_label_files(
        folder, "label_studio", folder.with_suffix(".json"), examine, "Label Studio", own_names=True
    )


def _image_of(data: dict[str, Any]) -> str | None:
    """Return the value of `image`, or else the only one that is an image, as the reader does without `image_key`."""
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    images = [text for text in texts.values() if PurePosixPath(path_of(text)).suffix.lower() in IMAGE_SUFFIXES]
    return texts.get("image") or (images[0] if len(images) == 1 else None)


def _num_regions(task: dict[str, Any]) -> int:
    annotations = task.get("annotations", task.get("completions"))
    first = next((one for one in annotations or [] if isinstance(one, dict)), {})
    return len(first["result"]) if isinstance(first.get("result"), list) else 0
