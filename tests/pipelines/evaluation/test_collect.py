"""Predictions gathered in an evaluation pass; for two ranks see test_two_ranks.py."""

from pathlib import Path

import pytest
import torch

from heads.base import ClassPrediction, EmbeddingPrediction
from pipelines.base.records import BoxLabel, DatasetIndex, ImageRecord
from pipelines.data.loading.sample import ImageInfo
from pipelines.evaluation.collect import Collector
from pipelines.spec.model import ModelSpec
from pipelines.tasks.embedding.tensors.embeddings import Embeddings

MODEL = ModelSpec.model_validate(
    {
        "backbone": {"name": "resnet14_thin"},
        "tasks": {
            "cells": {"head": "fcos"},
            "kind": {"head": "multiclass"},
            "lookup": {"head": "embedding", "of": "objects", "gallery": "train"},
        },
    }
)


def halved(image_id: int) -> ImageInfo:
    return ImageInfo(image_id, f"{image_id}.png", "a", (40, 60), (20, 30), (0.5, 0.5))


HALF = halved(7)


def box(annotation_id: int, identity: str | None) -> BoxLabel:
    return BoxLabel(annotation_id, "cell", (10.0 * annotation_id, 2.0, 4.0, 5.0), identity=identity)


def record(image_id: int, split: str, labels: list[BoxLabel]) -> ImageRecord:
    return ImageRecord(
        image_id=image_id,
        path=Path(f"/{image_id}.png"),
        file_name=f"{image_id}.png",
        source="a",
        split=split,  # type: ignore[arg-type]
        width=60,
        height=40,
        labels={"cells": labels, "lookup": labels},
    )


@pytest.fixture
def collector() -> Collector:
    index = DatasetIndex(
        records={
            "val": [record(7, "val", [box(3, "ann"), box(1, None)]), record(2, "val", [])],
            "train": [record(9, "train", [box(5, "bob")])],
        },
        categories={},
    )
    return Collector(MODEL, index)


def test_embeddings_of_objects_carry_the_labels_in_their_order(collector: Collector) -> None:
    collector.add([HALF], {"lookup": [EmbeddingPrediction(torch.eye(2))]}, gallery=False)
    (found,), gallery = collector.gather() or ([], [])
    lookup = found.tasks["lookup"]
    assert isinstance(lookup, Embeddings)
    assert lookup.annotation_ids is not None
    assert lookup.identities is not None
    assert lookup.boxes_xyxy is not None
    assert lookup.annotation_ids.tolist() == [3, 1]
    assert lookup.identities.tolist() == ["ann", ""]
    assert lookup.boxes_xyxy.tolist() == [[30, 2, 34, 7], [10, 2, 14, 7]]
    assert gallery == []


def test_gallery_is_separate_and_predictions_are_sorted_by_image_id(collector: Collector) -> None:
    kinds = [ClassPrediction(torch.ones(2)), ClassPrediction(torch.zeros(2))]
    collector.add([HALF, halved(2)], {"kind": kinds}, gallery=False)
    collector.add([halved(9)], {"lookup": [EmbeddingPrediction(torch.ones(1, 2))]}, gallery=True)
    collector.add([], {"kind": []}, gallery=False)
    found, gallery = collector.gather() or ([], [])
    assert [prediction.image_id for prediction in found] == [2, 7]
    assert [prediction.image_id for prediction in gallery] == [9]


def test_next_pass_starts_without_predictions(collector: Collector) -> None:
    collector.add([HALF], {"kind": [ClassPrediction(torch.ones(2))]}, gallery=False)
    collector.begin("val")
    assert collector.gather() == ([], [])
