"""Labels of records, as boxes or as class names."""

from pathlib import Path

import pytest

from pipelines.base.records import BoxLabel, ImageRecord
from pipelines.tasks.labels import box_labels, class_counts, class_names


def record(**labels: list[BoxLabel] | list[str]) -> ImageRecord:
    return ImageRecord(1, "s", "train", "x.png", Path("x.png"), height=30, width=40, labels=labels)


BOXES = [BoxLabel(i, name, (0, 0, 5, 5)) for i, name in enumerate("aab")]


def test_counts_are_of_objects_or_of_images() -> None:
    assert class_counts([record(boxes=BOXES), record(boxes=BOXES), record()], "boxes") == {"a": 4, "b": 2}
    assert class_counts([record(some=["a", "b"]), record(some=["a"])], "some") == {"a": 2, "b": 1}


def test_labels_of_the_other_type_are_rejected() -> None:
    assert box_labels("task", record(task=BOXES)) == BOXES
    assert class_names("task", record(task=["a"])) == ["a"]
    with pytest.raises(ValueError, match="has class names; the task needs boxes"):
        box_labels("task", record(task=["a"]))
    with pytest.raises(ValueError, match="has boxes; the task needs class names"):
        class_names("task", record(task=BOXES))
