"""A tiny model with a task of every kind, and fixtures that train."""

import os
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from PIL import Image

from pipelines.base.records import Category
from pipelines.cli import main
from pipelines.data.dataset.index import build_index
from pipelines.model import MultiTaskModel, build_model
from pipelines.preflight import Inputs
from pipelines.run.attempt import Attempt
from pipelines.run_folder.layout import RUN_DIR_VARIABLE, RunDir
from pipelines.spec.job import JobSpec
from pipelines.spec.load import validate_document, write_yaml
from pipelines.tracking.mlflow_store import Store, find_store
from pipelines.tracking.registry import Registry
from pipelines.training.stopping import StopRequest
from pipelines.training.trainer import quiet_lightning
from tests.made_once import made_once

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
    """Return three classes for each task; their ids have gaps and do not start at 0."""
    return {task: [Category(10 * k + 5, f"{task} {k}") for k in range(3)] for task in tiny_job.model.tasks}


@pytest.fixture(scope="session")
def tiny_model(tiny_job: JobSpec, tiny_categories: dict[str, list[Category]]) -> MultiTaskModel:
    """Return a model with random weights, whose class scores are spread so that rounding cannot change their order."""
    torch.manual_seed(0)
    model = build_model(tiny_job.model, tiny_categories).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="session")
def tiny_images() -> list[Image.Image]:
    """Return noise images of five sizes; two of them have the same padded size."""
    rng = np.random.default_rng(0)
    sizes_hw = [(48, 64), (96, 120), (64, 30), (90, 128), (20, 33)]
    return [Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)) for size in sizes_hw]


@pytest.fixture
def store(no_mlflow_settings: None, mlflow_runs_root: Path) -> Store:
    return find_store(mlflow_runs_root)


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Use one thread, so that sums have a fixed order and runs can be compared bit by bit."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def restored_signal_handlers() -> Iterator[None]:
    """Restore the signal handlers that runs in this process replace."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Let a test call `pipelines.cli.main` in this process, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(RUN_DIR_VARIABLE, raising=False)
    with warnings.catch_warnings():
        yield
    os.environ.pop(RUN_DIR_VARIABLE, None)


@pytest.fixture(scope="session")
def train(demo_root: Path) -> Callable[..., RunDir]:
    """Train as `pipelines.run.fit` does, up to the end of `trainer.fit`, with new objects.

    The arguments are a document, a run folder, callbacks that precede those of the run, the path of
    `model.init_from`, and the clock of the attempt.
    """

    def train_document(
        document: dict[str, Any],
        path: Path,
        *more: Callback,
        init_from: Path | None = None,
        clock: Callable[[], float] | None = None,
    ) -> RunDir:
        job = validate_document(document)
        inputs = Inputs(demo_root, "none", init_from and str(init_from))
        index, report = build_index(job, inputs.data)
        run_dir = RunDir.of(path)
        quiet_lightning()
        stop = StopRequest()
        stop.install()
        seed_everything(job.seed_everything, workers=True)
        module, data, trainer = Attempt(job, inputs, index, report, run_dir, stop, clock).build()
        trainer.callbacks[:0] = more
        checkpoint = run_dir.last_checkpoint if run_dir.last_checkpoint.exists() else None
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        return run_dir

    return train_document


@pytest.fixture(scope="session")
def command() -> Callable[..., int]:
    """Call a command in this process, as a shell would in a new one; returns its exit code."""

    def call(*words: str | Path) -> int:
        os.environ.pop(RUN_DIR_VARIABLE, None)
        try:
            return main([str(word) for word in words])
        finally:
            os.environ.pop(RUN_DIR_VARIABLE, None)

    return call


@pytest.fixture(scope="session")
def job_yaml(small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of the small document."""
    path = tmp_path_factory.mktemp("document") / "job.yaml"
    path.write_text(write_yaml(small))
    return path


@pytest.fixture(scope="session")
def finished(
    command: Callable[..., int], job_yaml: Path, demo_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> RunDir:
    """Return this process's copy of the folder of a finished run with all plots; tests must not change it."""

    def make(folder: Path) -> None:
        words = ("--config", job_yaml, "--data-root", demo_root.parent, "--run-dir", folder / "run")
        assert command("fit", *words, "--evaluation.plots", "true") == 0

    run_dir = made_once(tmp_path_factory, "finished", make) / "run"
    return RunDir.of(shutil.copytree(run_dir, tmp_path_factory.mktemp("finished") / "run"))
