"""Fixtures with a small data set of files, and a job that uses it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.base.records import BoxLabel, Category, DatasetIndex, ImageRecord
from pipelines.data.loading.datamodule import JobData
from pipelines.spec.data import DataSpec
from pipelines.spec.tasks import Task
from pipelines.tasks.classification.spec import MulticlassSpec, MultilabelSpec
from pipelines.tasks.detection.spec import FCOSSpec
from pipelines.tasks.embedding.spec import EmbeddingSpec
from tests.pipelines.data_folder import DataFolder

TASKS: dict[str, Task] = {
    "cells": FCOSSpec(head="fcos"),
    "kind": MulticlassSpec(head="multiclass"),
    "lookup": EmbeddingSpec(head="embedding", of="objects"),
    "marks": MultilabelSpec(head="multilabel"),
}
CATEGORIES = {
    "cells": [Category(3, "red"), Category(7, "white")],
    "kind": [Category(1, "day"), Category(2, "night")],
    "lookup": [Category(1, "ann"), Category(2, "ben")],
    "marks": [Category(1, "dot"), Category(2, "line"), Category(3, "ring")],
}


def make_data(folder: Path, num_train: int = 11, num_val: int = 5, **spec: Any) -> JobData:
    """Return images of two sizes in the sources "big" and "small"; every third image is not labeled for all tasks."""
    rng = np.random.default_rng(5)
    records: dict[Any, list[ImageRecord]] = {"train": [], "val": [], "test": []}
    for number in range(num_train + num_val):
        split = "train" if number < num_train else "val"
        source, size = ("small", (48, 40)) if number % 4 == 3 else ("big", (80, 120))
        path = folder / f"{number:03d}.png"
        if not path.exists():
            Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
        boxes = [
            BoxLabel(number * 10, "white", (4.0, 6.0, 20.0, 16.0), identity="ben"),
            BoxLabel(number * 10 + 1, "red", (12.0, 10.0, 16.0, 24.0), is_crowd=number % 2 == 0, identity="new"),
        ]
        labels: dict[str, Any] = {"cells": boxes, "lookup": boxes}
        if number % 3:
            labels |= {"kind": ["night"], "marks": ["dot", "ring"]}
        if number % 5 == 4:
            labels["cells"] = labels["lookup"] = []
        records[split].append(ImageRecord(number + 1, source, split, path.name, path, *size, labels=labels))
    layer = {"format": "coco", "path": "x.json", "tasks": list(TASKS)}
    sources = {
        name: {"images": ".", "labels": [layer], "batch_size": size} for name, size in (("big", 3), ("small", 2))
    }
    options = {"root": "x", "sources": sources, "image_size": 64, "num_workers": 0} | spec
    return JobData(DataSpec.model_validate(options), TASKS, DatasetIndex(records, CATEGORIES), seed=7)


@pytest.fixture
def data_with(tmp_path: Path) -> Callable[..., JobData]:
    return lambda **spec: make_data(tmp_path, **spec)


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path)
