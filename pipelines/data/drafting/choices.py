"""Choose the settings of a first training from the images and labels. Torch-free."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from pipelines.base.findings import Finding
from pipelines.base.records import BoxLabel, DatasetIndex, Split
from pipelines.data.dataset.index import build_index
from pipelines.data.drafting.source_document import SOURCE
from pipelines.formats.folder_contents import FolderReading
from pipelines.spec.load import Document, validate_document

BOXES, CLASSES = "objects", "classes"
"""Names of the task."""

SPLIT_FILE = "splits.csv"
"""Divides the images, if `pyramidion data split` or the user has written it."""
STEP_PX = 32
MIN_SIZE, MAX_SIZE = 64, 640
SMALL_OBJECT = 64
"""Median side, in pixels of the network's input, below which boxes are assigned to finer levels."""
MIN_EPOCHS, MAX_EPOCHS, TARGET_STEPS = 12, 60, 10_000


@dataclass(frozen=True)
class DataFacts:
    """Measured properties of a data set.

    Attributes:
        num_images: labeled images by split.
        num_classes: of the task.
        num_labels: boxes, or classes of images.
        has_several_classes: an image has several classes.
        size_hw: median height and width.
        object_px: median of the square root of a box's area, in pixels of the original image, over the training images;
            None without boxes.
        is_rotated: the labels refer to images that are rotated by their EXIF orientation.
        errors: findings that stop a run, without those about a missing val split.
        small_object_px: the same for the class with the smallest objects.
        large_object_px: the 95th percentile of the same.
        max_objects: the largest number of boxes of an image.
    """

    num_images: dict[Split, int]
    num_classes: int
    num_labels: int
    has_several_classes: bool
    size_hw: tuple[int, int]
    object_px: float | None
    is_rotated: bool
    errors: list[Finding]
    small_object_px: float | None = None
    large_object_px: float | None = None
    max_objects: int = 0


def minimal_document(reading: FolderReading, split_file: str | None = None, **changes: Any) -> dict[str, Any]:
    """Return the shortest document that reads the data; `changes` are fields of the source."""
    task = BOXES if reading.has_boxes else CLASSES
    source: dict[str, Any] = {
        "images": reading.images,
        "labels": [{"format": reading.format, **reading.fields, "tasks": [task]}],
        "splits": dict(reading.splits),
        **changes,
    }
    if split_file is not None:
        source["split_file"] = split_file
    # A classification task that takes any number of classes accepts all labels.
    tasks = {task: {"head": "fcos" if reading.has_boxes else "multilabel"}}
    model = {"backbone": {"name": "resnet18", "weights": "none"}, "tasks": tasks}
    return {"name": "draft", "model": model, "data": {"root": ".", "sources": {SOURCE: source}}}


def measure(folder: Path, reading: FolderReading, split_file: str | None) -> DataFacts:
    """Return the properties of the data, which is read completely."""
    return facts_of(minimal_document(reading, split_file), folder)


def facts_of(document: Document, folder: Path) -> DataFacts:
    """Return the properties of the data of a document with one task; the data is read completely."""
    index, report = build_index(validate_document(document), folder)
    records = [record for found in index.records.values() for record in found]
    (task,) = index.categories
    labels = [labels for record in records if (labels := record.labels.get(task)) is not None]
    boxes = [
        [label for label in record.labels.get(task) or () if isinstance(label, BoxLabel) and not label.is_crowd]
        for record in index.records.get("train") or records
    ]
    sides = sorted(map(_side, chain.from_iterable(boxes)))
    size_hw = (
        round(statistics.median(record.height for record in records)) if records else 0,
        round(statistics.median(record.width for record in records)) if records else 0,
    )
    swapped = [finding for finding in report.findings if "width and height are swapped" in finding.message]
    return DataFacts(
        num_images={split: len(found) for split, found in index.records.items()},
        num_classes=len(index.categories[task]),
        num_labels=sum(map(len, labels)),
        has_several_classes=any(len(found) > 1 for found in labels),
        size_hw=size_hw,
        object_px=statistics.median(sides) if sides else None,
        is_rotated=bool(swapped),
        errors=[finding for finding in report.errors if not _is_about_val(finding, index)],
        small_object_px=_small_side(list(chain.from_iterable(boxes))) if sides else None,
        large_object_px=sides[len(sides) * 95 // 100] if sides else None,
        max_objects=max(map(len, boxes), default=0),
    )


def _side(box: BoxLabel) -> float:
    return float((box.bbox_xywh[2] * box.bbox_xywh[3]) ** 0.5)


def _small_side(boxes: Sequence[BoxLabel]) -> float:
    """Return the median side of the class with the smallest boxes, among the classes with 1 % of all boxes."""
    numbers = Counter(box.category for box in boxes)
    frequent = [category for category, number in numbers.items() if number >= 0.01 * len(boxes)]
    return min(statistics.median(_side(box) for box in boxes if box.category == category) for category in frequent)


def _is_about_val(finding: Finding, index: DatasetIndex) -> bool:
    return finding.split == "val" and not index.records.get("val")


@dataclass(frozen=True)
class Choices:
    """Settings of a first training.

    Attributes:
        image_size: longer side of the network's input.
        finer_levels: whether boxes are assigned to finer levels than by default.
        num_steps: steps of the whole training.
    """

    image_size: int
    finer_levels: bool
    batch_size: int
    max_epochs: int
    warmup_steps: int
    num_steps: int


def choose_settings(facts: DataFacts) -> Choices:
    """Return settings by simple rules; each is explained in the document that is drafted with them."""
    longer = max(facts.size_hw)
    image_size = min(max(STEP_PX * round(longer / STEP_PX), MIN_SIZE), MAX_SIZE)
    num_train = max(facts.num_images.get("train", 0), 1)
    batch_size = 16 if image_size <= 320 else 8
    while batch_size > 2 and num_train < 4 * batch_size:
        batch_size //= 2
    steps_per_epoch = max(num_train // batch_size, 1)
    max_epochs = min(max(TARGET_STEPS // steps_per_epoch, MIN_EPOCHS), MAX_EPOCHS)
    num_steps = steps_per_epoch * max_epochs
    object_px = None if facts.object_px is None else facts.object_px * image_size / max(longer, 1)
    return Choices(
        image_size=image_size,
        finer_levels=object_px is not None and object_px < SMALL_OBJECT,
        batch_size=batch_size,
        max_epochs=max_epochs,
        warmup_steps=min(500, num_steps // 10),
        num_steps=num_steps,
    )
