"""A small data set as files, and the job's data over it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from pipelines.data.dataset.checks.report import DataReport
from pipelines.data.dataset.checks.text import render_report
from pipelines.data.dataset.index import build_index
from pipelines.data.loading.datamodule import JobData
from pipelines.records import BoxLabel, Category, DatasetIndex, ImageRecord
from pipelines.spec.data import DataSpec
from pipelines.spec.job import JobSpec
from pipelines.spec.tasks import Task
from pipelines.tasks.classification.spec import MulticlassSpec, MultilabelSpec
from pipelines.tasks.detection.spec import FCOSSpec
from pipelines.tasks.embedding.spec import EmbeddingSpec

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
    """Images of two sizes in sources "big" and "small"; every third is not labeled for all tasks."""
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


class DataFolder:
    """A data root on disk, and the job over it: images below `images/`, COCO files `{split}.json`."""

    tasks: ClassVar[dict[str, Any]] = {"things": {"head": "fcos"}}
    labels: ClassVar[list[dict[str, Any]]] = [{"format": "coco", "path": "{split}.json", "tasks": ["things"]}]

    def __init__(self, root: Path) -> None:
        self.root = root
        self.num_images = 0

    def image(self, file_name: str, size_hw: tuple[int, int] = (40, 60)) -> None:
        """Write an image that no other image is equal to."""
        self.num_images += 1
        path = self.root / "images" / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size_hw[::-1], (self.num_images % 256, self.num_images // 256, 7)).save(path)

    def text(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def coco(self, split: str, boxes: dict[str, list[dict[str, Any]]], **parts: Any) -> dict[str, Any]:
        """Write images and a COCO file; boxes need no id and no image_id, and are cats at (1, 2, 3, 4) by default."""
        first = {"train": 100, "val": 200, "test": 300}[split]
        images, annotations = [], []
        for image_id, (file_name, image_boxes) in enumerate(boxes.items(), start=first):
            if not (self.root / "images" / file_name).exists():
                self.image(file_name)
            images.append({"id": image_id, "file_name": file_name, "height": 40, "width": 60})
            for box in image_boxes:
                default = {"id": 10 * first + len(annotations), "image_id": image_id, "category_id": 5}
                annotations.append(default | {"bbox": [1, 2, 3, 4]} | box)
        document = {"images": images, "annotations": annotations, "categories": [{"id": 5, "name": "cat"}]} | parts
        self.text(f"{split}.json", json.dumps(document))
        return document

    def job(self, *, tasks: Any = None, labels: Any = None, sources: Any = None, **source: Any) -> JobSpec:
        sources = sources or {"s": {"images": "images", "labels": labels or self.labels} | source}
        model = {"backbone": {"name": "resnet18"}, "tasks": tasks or self.tasks}
        return JobSpec.model_validate({"name": "t", "model": model, "data": {"root": "x", "sources": sources}})

    def check(self, **job: Any) -> tuple[DatasetIndex, DataReport]:
        index, report = build_index(self.job(**job), self.root)
        assert all(layer.adds_up for layer in report.layers), render_report(report)
        return index, report


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path)
