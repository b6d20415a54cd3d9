"""Tiny networks of all heads, and the differences between their predictions and those of their graphs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heads.base import EmbeddingPrediction, Head
from heads.prediction_comparison import Differences
from pipelines.base.records import Category
from pipelines.export.onnx_file import OnnxGraph, write_onnx
from pipelines.model import MultiTaskModel, build_model
from pipelines.runtimes.network import ExportedNetwork
from pipelines.runtimes.rows import RUNTIMES
from pipelines.spec.model import ModelSpec

TINY = {"design": {"depths": [1, 1, 1, 1], "widths": [8, 8, 16, 16], "stem_width": 8}, "weights": "none"}
TASKS: Mapping[str, Mapping[str, Any]] = {
    "cells": {"head": "fcos", "num_convs": 1, "levels": ["p3", "p4"]},
    "discs": {"head": "retinanet", "num_convs": 1, "levels": ["p4", "p5"]},
    "kind": {"head": "multiclass"},
    "lookup": {"head": "embedding", "of": "objects", "dim": 8, "boxes_from": "cells"},
    "rings": {"head": "faster_rcnn", "levels": ["p3", "p4", "p5"], "roi_levels": ["p3", "p4"], "roi_channels": 32},
    "scene": {"head": "embedding", "of": "image", "dim": 8},
    "signs": {"head": "multilabel"},
}
CLASSES = [Category(id=number, name=f"class {number}") for number in range(3)]


class GraphCase:
    """A network, and the file of its graph."""

    def __init__(
        self, tasks: Mapping[str, Any], folder: Path, *, backbone: Mapping[str, Any] = TINY, **options: Any
    ) -> None:
        self.model_spec = ModelSpec.model_validate(
            {"backbone": dict(backbone), "neck": {"channels": 24}, "tasks": {name: dict(tasks[name]) for name in tasks}}
        )
        torch.manual_seed(0)
        self.model = build_model(self.model_spec, dict.fromkeys(tasks, CLASSES)).eval()
        _spread_scores(self.model)
        self.path = folder / "model.onnx"
        self.graph: OnnxGraph = write_onnx(self.model, self.path, (64, 96), **options)

    def network(self, runtime: str) -> ExportedNetwork:
        """Return the graph in a runtime."""
        return ExportedNetwork(RUNTIMES[runtime].load(self.path, "fp32", threads=1), self.model_spec, {})


def _spread_scores(model: MultiTaskModel) -> None:
    """Give the outputs of the heads weights with which scores differ as much as those of a trained network."""
    for head in model.heads.values():
        assert isinstance(head, Head)
        for name, parameter in head.named_parameters():
            if "output" in name or name == "linear.weight":
                nn.init.normal_(parameter, std=0.3)


def images_of(num_images: int, height: int, width: int) -> Tensor:
    """Return noise (B, 3, H, W) uint8."""
    generator = torch.Generator().manual_seed(num_images)
    return torch.randint(0, 256, (num_images, 3, height, width), dtype=torch.uint8, generator=generator)


def differences(case: GraphCase, network: ExportedNetwork, images: Tensor) -> dict[str, Differences]:
    """Return by task how far the predictions of a graph are from those of torch.

    Detections are compared with the nearest of the same class, since rounding can swap rows whose scores are almost
    equal. For the same reason, embeddings of objects are compared for the boxes that the graph has found.
    """
    num_images, _, height, width = images.shape
    sizes_hw = [(height - number, width - 5) for number in range(num_images)]
    found = network.predict(images, sizes_hw)
    boxes = {
        task: [prediction.boxes_xyxy for prediction in found[source]]  # type: ignore[attr-defined]
        for task, source in case.model.boxes_from.items()
    }
    expected = case.model.predict(images, sizes_hw, boxes)
    assert found.keys() == expected.keys() == set(case.model_spec.tasks)
    by_task = {}
    for task, predictions in expected.items():
        by_task[task] = Differences()
        for own, other in zip(predictions, found[task], strict=True):
            by_task[task].add(own, other)
            if isinstance(own, EmbeddingPrediction):
                assert isinstance(other, EmbeddingPrediction)
                assert own.embeddings.shape == other.embeddings.shape
                largest = (own.embeddings - other.embeddings).abs().amax() if own.embeddings.numel() else 0.0
                by_task[task].embeddings = max(by_task[task].embeddings or 0.0, float(largest))
    return by_task


def check_parity(case: GraphCase, runtime: str, sizes: list[tuple[int, int, int]]) -> dict[str, Differences]:
    """Check that a graph predicts what torch predicts, for images of some sizes, and return the last differences."""
    network = case.network(runtime)
    by_task: dict[str, Differences] = {}
    for size in sizes:
        by_task = differences(case, network, images_of(*size))
        for task, own in by_task.items():
            message = f"{task} in {runtime} at {size}: {own}"
            assert (own.scores or 0) < 1e-4, message
            assert (own.boxes_px or 0) < 0.05, message
            assert (own.embeddings or 0) < 1e-4, message
            assert own.num_missing <= 0.01 * own.num_detections, message
    return by_task
