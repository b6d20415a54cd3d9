"""A small data root on disk, for tests that read label files."""

import json
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from pipelines.base.records import DatasetIndex
from pipelines.data.dataset.checks.report import DataReport
from pipelines.data.dataset.checks.text import render_report
from pipelines.data.dataset.index import build_index
from pipelines.spec.job import JobSpec


class DataFolder:
    """A data root on disk and a job that uses it: images are below `images/`, COCO files are `{split}.json`."""

    tasks: ClassVar[dict[str, Any]] = {"things": {"head": "fcos"}}
    labels: ClassVar[list[dict[str, Any]]] = [{"format": "coco", "path": "{split}.json", "tasks": ["things"]}]

    def __init__(self, root: Path) -> None:
        self.root = root
        self.num_images = 0

    def image(self, file_name: str, size_hw: tuple[int, int] = (40, 60)) -> None:
        """Write an image with unique content."""
        self.num_images += 1
        path = self.root / "images" / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size_hw[::-1], (self.num_images % 256, self.num_images // 256, 7)).save(path)

    def text(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def coco(self, split: str, boxes: dict[str, list[dict[str, Any]]], **parts: Any) -> dict[str, Any]:
        """Write images and a COCO file; boxes need no ids, and are cats at (1, 2, 3, 4) by default."""
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

    def job(
        self, *, tasks: Any = None, labels: Any = None, sources: Any = None, on_error: str = "stop", **source: Any
    ) -> JobSpec:
        sources = sources or {"s": {"images": "images", "labels": labels or self.labels} | source}
        model = {"backbone": {"name": "resnet18"}, "tasks": tasks or self.tasks}
        data = {"root": "x", "sources": sources, "on_error": on_error}
        return JobSpec.model_validate({"name": "t", "model": model, "data": data})

    def check(self, **job: Any) -> tuple[DatasetIndex, DataReport]:
        index, report = build_index(self.job(**job), self.root)
        assert all(layer.adds_up for layer in report.layers), render_report(report)
        return index, report
