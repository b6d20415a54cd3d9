"""The labels of a record by the kind of task that reads them."""

from collections.abc import Sequence

from pipelines.records import BoxLabel, Category, ImageRecord


def box_labels(task: str, record: ImageRecord) -> list[BoxLabel]:
    """Return the boxes that the image is labeled with.

    Raises:
        ValueError: The image is labeled with class names.
    """
    labels = [label for label in record.labels[task] if isinstance(label, BoxLabel)]
    if len(labels) != len(record.labels[task]):
        raise ValueError(f"task {task!r}: image {record.image_id} ({record.file_name}) has class names; it wants boxes")
    return labels


def class_names(task: str, record: ImageRecord) -> list[str]:
    """Return the classes (or the identity) that the image is labeled with.

    Raises:
        ValueError: The image is labeled with boxes.
    """
    labels = [label for label in record.labels[task] if isinstance(label, str)]
    if len(labels) != len(record.labels[task]):
        raise ValueError(f"task {task!r}: image {record.image_id} ({record.file_name}) has boxes; it wants class names")
    return labels


def position_by_name(task: str, categories: Sequence[Category]) -> dict[str, int]:
    """Return a category's position, which is the label that the network learns, by its name.

    Raises:
        ValueError: Two categories share a name.
    """
    positions = {category.name: position for position, category in enumerate(categories)}
    if len(positions) != len(categories):
        raise ValueError(f"task {task!r}: two categories share a name: {sorted(c.name for c in categories)}")
    return positions
