"""Class scores of a split as CSV."""

import csv
import io
from collections.abc import Iterable
from typing import Any

from pipelines.base.records import ImageRecord
from pipelines.tasks.base import TaskSetup
from pipelines.tasks.classification.tensors.class_scores import ClassScores
from pipelines.tasks.labels import class_names


def class_table(task: TaskSetup[Any], pairs: Iterable[tuple[ImageRecord, ClassScores]]) -> str:
    """Return a CSV table with one row for each image.

    Its columns are image_id, file_name, source, is_labeled (and the same as is_labelled, its earlier name), labels
    (joined by '|'), and `score:<class>` for each class.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    scores = [f"score:{category.name}" for category in task.categories]
    table.writerow(["image_id", "file_name", "source", "is_labeled", "is_labelled", "labels", *scores])
    for record, prediction in pairs:
        labels = class_names(task.name, record) if task.name in record.labels else []
        is_labeled = str(task.name in record.labels).lower()
        image = [record.image_id, record.file_name, record.source, is_labeled, is_labeled]
        table.writerow([*image, "|".join(labels), *prediction.scores.tolist()])
    return text.getvalue()
