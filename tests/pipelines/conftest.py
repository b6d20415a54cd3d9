"""One tiny model with a task of every kind, and one MLflow store, for all tests of this folder."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.data.records import Category
from pipelines.mlflow_store import Store, connect, find_experiment, find_store
from pipelines.model import MultiTaskModel, build_model
from pipelines.registry import Registry
from pipelines.spec.job import JobSpec

TINY_DOCUMENT = {
    "name": "tiny",
    "model": {
        "backbone": {"name": "timm:resnet10t", "weights": "none"},
        "neck": {"channels": 16},
        "tasks": {
            "cells": {
                "head": "fcos", "num_convs": 1, "norm": "none", "score_threshold": 0.0, "max_detections": 7,
            },
            "kind": {"head": "multiclass"},
            "signs": {"head": "multilabel"},
            "lookup": {"head": "embedding", "of": "objects", "dim": 8},
            "scene": {"head": "embedding", "of": "image", "dim": 4},
        },
    },
    "data": {
        "root": "tiny",
        "image_size": 64,
        "sources": {
            "a": {
                "images": "images",
                "labels": [
                    {"format": "coco", "path": "boxes_{split}.json", "tasks": ["cells", "lookup"]},
                    {"format": "csv", "path": "kind.csv", "column": "kind", "tasks": ["kind", "signs", "scene"]},
                ],
            }
        },
    },
}  # fmt: skip


@pytest.fixture(scope="session")
def tiny_job() -> JobSpec:
    return JobSpec.model_validate(TINY_DOCUMENT)


@pytest.fixture(scope="session")
def tiny_categories(tiny_job: JobSpec) -> dict[str, list[Category]]:
    """Three classes a task; ids have gaps and do not start at 0."""
    return {task: [Category(10 * k + 5, f"{task} {k}") for k in range(3)] for task in tiny_job.model.tasks}


@pytest.fixture(scope="session")
def tiny_model(tiny_job: JobSpec, tiny_categories: dict[str, list[Category]]) -> MultiTaskModel:
    """Random weights; the class scores are spread so that no order hangs on rounding."""
    torch.manual_seed(0)
    model = build_model(tiny_job.model, tiny_categories).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="session")
def tiny_images() -> list[Image.Image]:
    """Noise of five sizes; two of them share a padded size."""
    rng = np.random.default_rng(0)
    sizes_hw = [(48, 64), (96, 120), (64, 30), (90, 128), (20, 33)]
    return [Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)) for size in sizes_hw]


@pytest.fixture(scope="session")
def mlflow_runs_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all tests: the tables of a new one take seconds. Its path has a space in it."""
    runs_root = tmp_path_factory.mktemp("runs root")
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = find_store(runs_root)
    find_experiment(connect(store), store, "tests")
    return runs_root


@pytest.fixture
def no_mlflow_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without the MLflow of whoever runs the tests, in an empty working directory: MLflow's own defaults fill it."""
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)


@pytest.fixture
def store(no_mlflow_settings: None, mlflow_runs_root: Path) -> Store:
    return find_store(mlflow_runs_root)


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store)
