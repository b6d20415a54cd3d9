"""The table with the class scores of a split, as a run folder has it. Torch-free.

Legend: I images, K classes.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.tasks.arrays import BoolArray
from pipelines.tasks.image_marks import ImageName
from pipelines.tasks.resampling import Numbers

MULTILABEL_THRESHOLD = 0.5
_SCORE = "score:"


@dataclass(frozen=True)
class ClassTable:
    """Scores (I, K) of the images that are labeled for a task, and which classes each image has (I, K)."""

    images: list[ImageName]
    classes: list[str]
    scores: Numbers
    truths: BoolArray
    is_multilabel: bool

    @classmethod
    def read(cls, predictions: Path, result: Mapping[str, Any]) -> "ClassTable":
        """Read the table of a task.

        Args:
            predictions: the file.
            result: the entry of the task in result.json.

        Raises:
            ValueError: a class name contains '|'.
        """
        with predictions.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["is_labeled"] == "true"]
        classes = [row["label"] for row in result["per_class"]]
        if any("|" in name for name in classes):
            raise ValueError(
                f"{predictions}: labels are joined by '|', which is part of a class name; rename the class"
            )
        labels = [set(row["labels"].split("|")) for row in rows]
        return cls(
            [ImageName(int(row["image_id"]), row["source"], row["file_name"]) for row in rows],
            classes,
            np.array([[float(row[_SCORE + name]) for name in classes] for row in rows]).reshape(-1, len(classes)),
            np.array([[name in found for name in classes] for found in labels], dtype=bool).reshape(-1, len(classes)),
            is_multilabel=result["accuracy"] is None,
        )
