"""Twelve images of five tasks, and predictions for them."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.base.records import BoxLabel, Category, ImageRecord
from pipelines.evaluation.evaluate import Gallery, evaluate_task
from pipelines.evaluation.predictions import ImagePredictions
from pipelines.spec.model import ModelSpec
from pipelines.tasks.classification.tensors.class_scores import ClassScores
from pipelines.tasks.detection.tensors.detections import Detections
from pipelines.tasks.embedding.tensors.embeddings import Embeddings

MODEL = ModelSpec.model_validate(
    {
        "backbone": {"name": "resnet18"},
        "tasks": {
            "cells": {"head": "fcos"},
            "kind": {"head": "multiclass"},
            "marks": {"head": "multilabel"},
            "lookup": {"head": "embedding", "of": "objects", "dim": 2},
            "scene": {"head": "embedding", "of": "image", "dim": 2, "gallery": "train"},
        },
    }
)
CATEGORIES = {
    "cells": [Category(7, "red"), Category(3, "white"), Category(90, "never")],
    "kind": [Category(1, "indoor"), Category(2, "outdoor")],
    "marks": [Category(1, "scratch"), Category(2, "stain")],
    "lookup": [Category(1, "A"), Category(2, "B")],
    "scene": [Category(1, "north"), Category(2, "south")],
}
NUM_IMAGES = 12


def make_records(split="test"):
    """Twelve images; every third one is not labeled for any task but `cells`, every fourth has no boxes."""
    rng = np.random.default_rng(5)
    records = []
    for i in range(NUM_IMAGES):
        boxes = [
            BoxLabel(
                annotation_id=100 * i + n + 1,
                category=["red", "white"][int(rng.integers(2))],
                bbox_xywh=(10.0 + 60 * n, 20.0, float(rng.integers(8, 50)), 40.5),
                is_crowd=n == 4,
                area=321.5 if n == 1 else None,
                identity=None if n == 3 else "AB"[n % 2],
            )
            for n in range(0 if i % 4 == 0 else 5)
        ]
        labels = {"cells": boxes}
        if i % 3:
            marks = [["scratch"], ["stain"], ["scratch", "stain"], []][i % 4]
            scene = ["north" if i % 2 else "south"]
            labels |= {"kind": [["indoor", "outdoor"][i % 2]], "marks": marks, "lookup": boxes, "scene": scene}
        name = f"folder/{i:03d} é.jpg"
        records.append(ImageRecord(1000 + i, "plates", split, name, Path(name), height=200, width=320, labels=labels))
    return records


def make_predictions(records, seed=3):
    """Right and wrong predictions for every image, labeled or not, in float32 like those of a network."""
    rng = np.random.default_rng(seed)
    predictions = []
    for record in records:
        boxes = [label for label in record.labels["cells"] if isinstance(label, BoxLabel)]
        xywh = np.array([label.bbox_xywh for label in boxes], dtype=np.float32).reshape(-1, 4)
        xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        found = np.concatenate(
            [xyxy + rng.normal(0, 2, xyxy.shape), rng.uniform(0, 100, (3, 2)).repeat(2, 1) + [0, 0, 9, 9]]
        )
        detections = Detections(
            found.astype(np.float32), rng.random(len(found)).astype(np.float32), rng.integers(0, 3, len(found))
        )
        share = np.float32(rng.random())
        vectors = np.array([[0.1, 1] if b.identity == "B" else [1, 0.1] for b in boxes], dtype=np.float32).reshape(
            -1, 2
        )
        ids = np.array([b.annotation_id for b in boxes], dtype=np.int64)
        tasks = {
            "cells": detections,
            "kind": ClassScores(np.array([share, 1 - share])),
            "marks": ClassScores(rng.random(2).astype(np.float32)),
            "lookup": Embeddings(vectors + rng.normal(0, 0.3, vectors.shape).astype(np.float32), xyxy, ids),
            "scene": Embeddings(rng.normal(size=(1, 2)).astype(np.float32)),
        }
        predictions.append(ImagePredictions(record.image_id, tasks))
    return predictions


@pytest.fixture(scope="session")
def model():
    return MODEL


@pytest.fixture(scope="session")
def categories():
    return CATEGORIES


@pytest.fixture(scope="session")
def records():
    return make_records()


@pytest.fixture(scope="session")
def predictions(records):
    return make_predictions(records)


@pytest.fixture(scope="session")
def gallery():
    train = make_records("train")
    return Gallery(train, make_predictions(train, 9))


@pytest.fixture(scope="session")
def evaluate(gallery):
    """Score a task by its name, by default with the training gallery."""

    def score(name, records, predictions, gallery=gallery):
        return evaluate_task(name, MODEL.tasks[name], CATEGORIES[name], records, predictions, gallery)

    return score


@pytest.fixture(scope="session")
def tasks(evaluate, records, predictions):
    return {name: evaluate(name, records, predictions) for name in MODEL.tasks}
