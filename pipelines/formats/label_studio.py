"""Label Studio: the JSON export of a project. Torch-free.

https://labelstud.io/guide/export.html#Label-Studio-JSON-format-of-annotated-tasks
"""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any, ClassVar, Literal

from pydantic import Field

from pipelines.base.findings import Finding
from pipelines.base.paths import IMAGE_SUFFIXES, RelativePath
from pipelines.formats.booleans import read_boolean
from pipelines.formats.box_numbers import BoxNumbers
from pipelines.formats.folder_contents import FolderContents, FolderReading
from pipelines.formats.image_names import AmbiguousImage, ImageNames, path_of
from pipelines.formats.json_files import parse_json
from pipelines.formats.label_studio_recognition import recognize_label_studio
from pipelines.formats.label_studio_regions import boxes_of
from pipelines.formats.layer import LabelKind, LabelLayer, confirmed_unit
from pipelines.formats.layer_content import FileImage, LayerContent
from pipelines.formats.source_split import SourceSplit


class LabelStudioLayer(LabelLayer):
    """Label Studio's JSON export: rectangles, polygons and ellipses as boxes; choices and texts as identities."""

    GIVES: ClassVar[frozenset[LabelKind]] = frozenset({"boxes", "identities"})
    NUMBERS = BoxNumbers("xywh", scale=100)
    RECOGNIZED_BY: ClassVar[str] = "JSON files that are lists of tasks with data and annotations"

    format: Literal["label_studio"]
    path: RelativePath
    image_key: str | None = Field(
        None, description="key of the image in the data of a task; default: `image`, or the only value that is an image"
    )
    unit: Literal["percent"] | None = confirmed_unit("percent")

    @classmethod
    def recognize(cls, folder: FolderContents) -> list[FolderReading]:
        return recognize_label_studio(folder)

    def paths(self, images: str) -> dict[str, str]:
        """Return the JSON file."""
        return {"path": self.path}

    def read(self, split: SourceSplit, identity_fields: Collection[str]) -> LayerContent | None:
        """Return the labels of the file's tasks.

        The first annotation that is not cancelled counts; tasks without one are skipped. If `path` does not contain the
        split, all images belong to the first split of the source. An identity is the choice or the text of a region
        whose control has the name of the identity field.
        """
        path = split.path(self.path)
        content = LayerContent(file=split.fill(self.path))
        if not path.is_file() or not split.reads_undivided(self.path):
            return None
        finding = partial(split.finding, file=content.file)
        tasks = content.read_file(path, parse_json, finding)
        if tasks is None:
            return content
        if problem := _other_format(tasks):
            content.findings.append(finding("broken_label_file", problem))
            return content
        _Reading(content, finding, self.image_key, identity_fields, ImageNames.below(split.images_dir)).read(tasks)
        return content


def _other_format(tasks: Any) -> str | None:
    """Return why the document is not an export of tasks, or None."""
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        return "is not a list of tasks; export the project as 'JSON'"
    if tasks and not any("annotations" in task or "completions" in task for task in tasks):
        return "has tasks without 'annotations', as 'JSON-MIN' has; export the project as 'JSON'"
    return None


@dataclass
class _Reading:
    """The tasks of one file on their way into a layer's content."""

    content: LayerContent
    finding: Callable[..., Finding]
    image_key: str | None
    identity_fields: Collection[str]
    names: ImageNames
    skipped: Counter[str] = field(default_factory=Counter)
    unlabeled: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

    def read(self, tasks: list[dict[str, Any]]) -> None:
        for position, task in enumerate(tasks):
            self._read_task(task, task.get("id", f"#{position}"))
        self.content.num_read += sum(self.skipped.values())
        self.content.refuse_shapes(self.skipped, self.finding)
        if self.unlabeled:
            message = f"has {len(self.unlabeled)} tasks without an annotation, whose images are skipped"
            self.content.findings.append(self.finding("unlabelled_image", message, image=self.unlabeled[0]))
        if self.repeated:
            message = (
                f"has {len(self.repeated)} tasks with several annotations; the first that is not cancelled is used"
            )
            self.content.findings.append(self.finding("several_annotations", message, image=self.repeated[0]))

    def _read_task(self, task: dict[str, Any], task_id: Any) -> None:
        given = self._image_of(task)
        report = partial(self.finding, annotation_id=f"task {task_id}")
        if given is None:
            message = f"has no image; its data has the keys {_keys(task)}. Set image_key of the layer to one of them"
            self.content.findings.append(report("broken_entry", message))
            return
        try:
            file_name = self.names.claim(self.names.find(given), given)
        except AmbiguousImage as error:
            message = f"{error}; rename one of the images, or remove one of the tasks"
            self.content.findings.append(report("ambiguous_image", message))
            return
        annotations = task.get("annotations", task.get("completions"))
        if not isinstance(annotations, list) or not all(isinstance(one, dict) for one in annotations):
            self.content.findings.append(report("broken_entry", "has no list of 'annotations'", image=file_name))
            return
        odd = [one["was_cancelled"] for one in annotations if read_boolean(one.get("was_cancelled")) is None]
        if odd:
            message = f"has an annotation whose 'was_cancelled' is {str(odd[0])!r}; write true or false"
            self.content.findings.append(report("broken_entry", message, image=file_name))
            return
        valid = [
            one
            for one in annotations
            if not read_boolean(one.get("was_cancelled")) and isinstance(one.get("result"), list)
        ]
        if not valid:
            self.unlabeled.append(file_name)
            return
        if len(valid) > 1:
            self.repeated.append(file_name)
        if file_name in self.content.images:
            message = "is the image of two tasks; the objects are merged"
            self.content.findings.append(self.finding("repeated_image", message, image=file_name))
        boxes, problems, size_hw = boxes_of(valid[0]["result"], self.identity_fields, self.skipped)
        image = self.content.images.setdefault(file_name, FileImage(file_name, size_hw=size_hw, boxes=[]))
        assert image.boxes is not None
        image.boxes += boxes
        self.content.num_read += len(boxes) + len(problems)
        for box in boxes:
            self.content.category_ids.setdefault(box.category, set())
        self.content.refuse(report("broken_entry", problem, image=file_name) for problem in problems)

    def _image_of(self, task: dict[str, Any]) -> str | None:
        data = task.get("data")
        texts = {key: value for key, value in data.items() if isinstance(value, str)} if isinstance(data, dict) else {}
        if self.image_key is not None:
            return texts.get(self.image_key)
        if "image" in texts:
            return texts["image"]
        images = [text for text in texts.values() if PurePosixPath(path_of(text)).suffix.lower() in IMAGE_SUFFIXES]
        return images[0] if len(images) == 1 else None


def _keys(task: dict[str, Any]) -> list[str]:
    data = task.get("data")
    return sorted(data) if isinstance(data, dict) else []
