"""Checks of everything that docs/adding.md adds. `tests/test_adding.py` runs them in a copy of the project."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from heads.catalog import HEADS
from pipelines.cli import main
from pipelines.data.dataset.roots import DATA_ROOTS_VARIABLE
from pipelines.data.loading.transforms import TrainTransform
from pipelines.run_folder.layout import RUN_DIR_VARIABLE, RunDir
from pipelines.spec.augment import Augment, operations_of
from pipelines.spec.job import JobSpec
from pipelines.spec.load import write_yaml
from pipelines.spec.result import RunResult
from service.executors.registry import check_executor, create_executor
from service.jobs.kinds.registry import job_kind
from service.settings import Settings
from tests.pipelines.data_folder import DataFolder


def schema_with(field: str, value: str) -> dict[str, Any]:
    """Return the properties of the section of the document that this value of a field selects."""
    sections = JobSpec.model_json_schema()["$defs"].values()
    (found,) = [s["properties"] for s in sections if s.get("properties", {}).get(field, {}).get("const") == value]
    return dict(found)


@pytest.mark.parametrize(("head", "setting"), [("cosine", "scale"), ("density", "level")])
def test_head_is_in_the_catalog_and_its_settings_are_in_the_schema(head: str, setting: str) -> None:
    assert HEADS[head].description
    settings = schema_with("head", head)
    assert settings[setting]["description"]
    assert settings["weight"]["description"]


def test_document_with_a_task_of_the_kind_trains_to_a_result(
    small_document: dict[str, Any], demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(RUN_DIR_VARIABLE, raising=False)
    small_document["trainer"]["max_epochs"] = 1
    small_document["model"]["tasks"] = {"how_many": {"head": "density"}}
    del small_document["model"]["select"]
    (source,) = small_document["data"]["sources"].values()
    source["labels"] = [source["labels"][0] | {"tasks": ["how_many"]}]
    config, run_dir = tmp_path / "job.yaml", RunDir.of(tmp_path / "run")
    config.write_text(write_yaml(small_document))
    words = ["fit", "--config", str(config), "--data-root", str(demo_root.parent), "--run-dir", str(run_dir.path)]
    assert main(words) == 0
    image = next((demo_root / "images").rglob("*.jpg"))
    assert main(["predict", "--run-dir", str(run_dir.path), "--images", str(image), "--draw"]) == 0
    result = json.loads((run_dir.path / "result.json").read_text())
    assert RunResult.model_validate(result).select.metric == "val/how_many/exact"
    assert set(result["summary"]) == {"test/how_many/exact", "test/how_many/within_one"}
    assert all(0 <= value <= 1 for value in result["summary"].values())
    assert sum(row["num_boxes"] for row in result["tasks"]["how_many"]["per_class"]) > 0
    assert (run_dir.path / "predictions" / "how_many.csv").read_text().startswith("image_id,file_name,count:")


def test_index_is_built_from_files_of_the_format(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    for name in ("a.png", "b.png", "c.png"):
        folder.image(name)
    folder.text("train.txt", "a.png 1 2 30 20.5 big cat\nb.png\n\nb.png 1 2 x 4 cat\n")
    folder.text("val.txt", "c.png 0 0 10 10 big cat\n")
    index, report = folder.check(labels=[{"format": "text_boxes", "tasks": ["things"]}])
    first, second = index.records["train"]
    assert [(box.category, box.bbox_xywh) for box in first.labels["things"]] == [("big cat", (1, 2, 30, 20.5))]
    assert second.labels["things"] == []
    assert [(finding.kind, finding.image) for finding in report.errors] == [("broken_entry", "b.png")]
    assert schema_with("format", "text_boxes")["path"]["description"]


def test_document_lists_the_operation() -> None:
    (operation,) = operations_of(TypeAdapter(Augment).validate_python([{"op": "invert", "p": 1}]))
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.integers(0, 256, (3, 40, 60), dtype=np.uint8))
    plain, inverted = (TrainTransform(64, operations)(image, {}, rng).image for operations in ([], [operation]))
    assert torch.equal(inverted, 255 - plain)
    assert schema_with("op", "invert")["p"]["maximum"] == 1


def test_job_of_the_kind_writes_its_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir, kind = RunDir.of(tmp_path / "run"), job_kind("inventory")
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.JPG", "c.png", "notes.txt"):
        (tmp_path / "photos" / name).touch()
    monkeypatch.setenv(DATA_ROOTS_VARIABLE, str(tmp_path))
    settings = Settings(root=tmp_path / "service", data_roots=(tmp_path,))
    checked = kind.check({"folder": "photos"}, settings, {"cpus": 1})
    run_dir.path.mkdir()
    run_dir.job_yaml.write_text(write_yaml(checked.config))
    subprocess.run(kind.command(run_dir), check=True, timeout=60, cwd=Path(__file__).parents[1])
    assert kind.has_result(run_dir)
    assert json.loads(run_dir.result.read_text())["num_images"] == {".jpg": 2, ".png": 1}


def test_executor_is_chosen_by_its_name(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, executor="background", cpus=2, gpus=0)
    check_executor(settings)
    assert type(create_executor(settings)).__name__ == "BackgroundExecutor"
