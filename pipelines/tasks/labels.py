"""The labels of a record, as boxes or as class names. Torch-free."""

from collections import Counter
from collections.abc import Iterable

from pipelines.base.records import BoxLabel, ImageRecord


def box_labels(task: str, record: ImageRecord) -> list[BoxLabel]:
    """Return the boxes that the image is labeled with.

    Raises:
        ValueError: the image is labeled with class names.
    """
    labels = [label for label in record.labels[task] if isinstance(label, BoxLabel)]
    if len(labels) != len(record.labels[task]):
        raise ValueError(
            f"task {task!r}: image {record.image_id} ({record.file_name}) has class names; the task needs boxes"
        )
    return labels


def class_names(task: str, record: ImageRecord) -> list[str]:
    """Return the classes (or the identity) that the image is labeled with.

    Raises:
        ValueError: the image is labeled with boxes.
    """
    labels = [label for label in record.labels[task] if isinstance(label, str)]
    if len(labels) != len(record.labels[task]):
        raise ValueError(
            f"task {task!r}: image {record.image_id} ({record.file_name}) has boxes; the task needs class names"
        )
    return labels


def class_counts(records: Iterable[ImageRecord], task: str) -> Counter[str]:
    """Return how many labels each class of the task has: objects where labels are boxes, images otherwise."""
    return Counter(
        label.category if isinstance(label, BoxLabel) else label
        for record in records
        for label in record.labels.get(task, ())
    )
