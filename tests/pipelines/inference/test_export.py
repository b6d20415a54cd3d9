import json
import os
from pathlib import Path

import pytest
import torch

from pipelines.base.errors import ConfigError
from pipelines.base.records import Category
from pipelines.inference.export import export_model, load_exported, read_best_thresholds
from pipelines.model import MultiTaskModel, build_model
from pipelines.spec.job import JobSpec

Categories = dict[str, list[Category]]


def test_loaded_model_has_every_weight_the_document_and_the_categories(
    tiny_model: MultiTaskModel, tiny_job: JobSpec, tiny_categories: Categories, tmp_path: Path
) -> None:
    export_model(tiny_model, tiny_job, tiny_categories, tmp_path / "new" / "model")
    model, job, categories = load_exported(tmp_path / "new" / "model")
    expected, loaded = tiny_model.state_dict(), model.state_dict()
    assert list(expected) == list(loaded)
    assert all(torch.equal(expected[name], loaded[name]) for name in expected)
    assert job == tiny_job
    assert categories == tiny_categories
    assert not model.training


def test_export_is_two_files_without_pickles(
    tiny_model: MultiTaskModel, tiny_job: JobSpec, tiny_categories: Categories, tmp_path: Path
) -> None:
    export_model(tiny_model, tiny_job, tiny_categories, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    described = json.loads((tmp_path / "model.json").read_text())
    assert described["categories"]["cells"][1] == {"id": 15, "name": "cells 1"}


def test_weights_are_synced_before_they_have_their_name(
    tiny_model: MultiTaskModel, tiny_job: JobSpec, tiny_categories: Categories, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    synced: list[tuple[int, list[str]]] = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, sorted(path.name for path in tmp_path.iterdir())))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    export_model(tiny_model, tiny_job, tiny_categories, tmp_path)
    inodes = [inode for inode, _ in synced]
    for name in ("model.safetensors", "model.json"):
        position = inodes.index((tmp_path / name).stat().st_ino)
        assert name not in synced[position][1]
        assert tmp_path.stat().st_ino in inodes[position:], "the folder is synced after the file has its name"


def test_best_thresholds_are_part_of_the_model(
    tiny_model: MultiTaskModel, tiny_job: JobSpec, tiny_categories: Categories, tmp_path: Path
) -> None:
    best = {"signs": {"signs 0": 0.25, "signs 1": None, "signs 2": 0.75}}
    export_model(tiny_model, tiny_job, tiny_categories, tmp_path, best)
    assert read_best_thresholds(tmp_path) == best
    described = json.loads((tmp_path / "model.json").read_text())
    described["best_thresholds"]["signs"]["signs 0"] = 1.5
    (tmp_path / "model.json").write_text(json.dumps(described))
    with pytest.raises(ConfigError, match="best_thresholds cannot be read"):
        read_best_thresholds(tmp_path)
    del described["best_thresholds"]
    (tmp_path / "model.json").write_text(json.dumps(described))
    assert read_best_thresholds(tmp_path) == {}
    assert load_exported(tmp_path)[1] == tiny_job


def test_normalization_is_that_of_the_trained_model(
    tiny_job: JobSpec, tiny_categories: Categories, tmp_path: Path
) -> None:
    model = build_model(tiny_job.model, tiny_categories)
    model.mean.fill_(0.25)
    model.std.fill_(0.125)
    export_model(model, tiny_job, tiny_categories, tmp_path)
    loaded, _, _ = load_exported(tmp_path)
    assert loaded.mean.flatten().tolist() == [0.25] * 3
    assert loaded.std.flatten().tolist() == [0.125] * 3


def test_model_with_pretrained_weights_loads_without_their_file(
    tiny_model: MultiTaskModel, tiny_job: JobSpec, tiny_categories: Categories, tmp_path: Path
) -> None:
    document = tiny_job.model_dump(mode="json")
    document["model"]["backbone"]["weights"] = "gone/weights.safetensors"
    export_model(tiny_model, JobSpec.model_validate(document), tiny_categories, tmp_path)
    model, job, _ = load_exported(tmp_path)
    assert job.model.backbone.weights == "gone/weights.safetensors"
    assert torch.equal(next(model.parameters()), next(tiny_model.parameters()))


def test_second_export_replaces_the_first(
    tiny_model: MultiTaskModel, tiny_job: JobSpec, tiny_categories: Categories, tmp_path: Path
) -> None:
    other = build_model(tiny_job.model, tiny_categories)
    export_model(other, tiny_job, tiny_categories, tmp_path)
    export_model(tiny_model, tiny_job, tiny_categories, tmp_path)
    model, _, _ = load_exported(tmp_path)
    assert torch.equal(next(model.parameters()), next(tiny_model.parameters()))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "model.json").unlink(), "cannot be read"),
        (lambda folder: (folder / "model.json").write_text('{"format": 99}'), "format 99"),
        (lambda folder: (folder / "model.json").write_text('{"format": 1}'), "job"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x00" * 64), "header"),
    ],
)
def test_damaged_export_is_reported(
    damage: object,
    reason: str,
    tiny_model: MultiTaskModel,
    tiny_job: JobSpec,
    tiny_categories: Categories,
    tmp_path: Path,
) -> None:
    export_model(tiny_model, tiny_job, tiny_categories, tmp_path)
    assert callable(damage)
    damage(tmp_path)
    with pytest.raises(ConfigError, match=str(tmp_path)) as caught:
        load_exported(tmp_path)
    assert reason.lower() in str(caught.value).lower()


def test_weights_of_another_model_are_reported(
    tiny_model: MultiTaskModel, tiny_job: JobSpec, tiny_categories: Categories, tmp_path: Path
) -> None:
    export_model(tiny_model, tiny_job, tiny_categories, tmp_path)
    described = json.loads((tmp_path / "model.json").read_text())
    described["categories"]["kind"].pop()
    (tmp_path / "model.json").write_text(json.dumps(described))
    with pytest.raises(ConfigError, match="kind"):
        load_exported(tmp_path)
