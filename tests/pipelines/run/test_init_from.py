"""A run that starts from another one: learned parts are kept, and new parts are initialized as usual."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipelines.data.dataset.index import build_index
from pipelines.data.loading.datamodule import JobData
from pipelines.inference.saved import network_state, read_saved
from pipelines.model import MultiTaskModel
from pipelines.run.saved_run import load_run
from pipelines.run_folder.layout import RunDir
from pipelines.spec.load import validate_document, write_yaml

Document = dict[str, Any]
Command = Callable[..., int]
Train = Callable[..., RunDir]


def with_tasks(small: Document, *tasks: str) -> Document:
    """Return the small document, one epoch, with some of its tasks."""
    document = copy.deepcopy(small)
    document["trainer"]["max_epochs"] = 1
    document["model"]["tasks"] = {task: document["model"]["tasks"][task] for task in tasks}
    document["model"]["select"] = None
    for layer in document["data"]["sources"]["shapes"]["labels"]:
        layer["tasks"] = [task for task in layer["tasks"] if task in tasks]
    labels = document["data"]["sources"]["shapes"]["labels"]
    document["data"]["sources"]["shapes"]["labels"] = [layer for layer in labels if layer["tasks"]]
    return document


@pytest.fixture(scope="module")
def detector(small: Document, train: Train, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Return the run of a detector of shapes with averaged weights and BatchNorm in its neck."""
    document = with_tasks(small, "shapes")
    run_dir = train(document, tmp_path_factory.mktemp("detector"))
    run_dir.config_yaml.write_text(write_yaml(document))
    return run_dir


@pytest.fixture
def new_task(small: Document) -> Document:
    """Return a document that adds a task to those of `detector` and freezes everything else."""
    document = with_tasks(small, "shapes", "scene")
    document["model"] |= {
        "init_from": "detector",
        "transfer": "freeze",
        "lr_scale": {"stages": {"neck": 0}, "tasks": {"shapes": 0}},
    }
    return document


def model_of(run_dir: RunDir, document: Document) -> MultiTaskModel:
    return load_run(run_dir, validate_document(document)).network().eval()


@torch.no_grad()
def answers(model: MultiTaskModel, document: Document, root: Path) -> list[Tensor]:
    """Return raw outputs and predictions of the detector for all val images."""
    job = validate_document(document)
    loader = JobData(job.data, job.model.tasks, build_index(job, root)[0], 0).evaluation_loaders("val")[0]
    found: list[Tensor] = []
    for batch in loader:
        raw: Any = model.heads["shapes"](model.features(batch.images))
        found += [raw.logits, raw.box_codes, raw.centerness]
        sizes = [info.size_hw for info in batch.infos]
        for seen in model.predict(batch.images, sizes, tasks=["shapes"])["shapes"]:
            found += [seen.boxes_xyxy, seen.scores, seen.labels]  # type: ignore[union-attr]
    return found


def test_outputs_of_the_old_task_are_bit_identical_if_shared_parts_are_frozen(
    small: Document, new_task: Document, detector: RunDir, train: Train, demo_root: Path, tmp_path: Path
) -> None:
    before = model_of(detector, with_tasks(small, "shapes"))
    run_dir = train(new_task, tmp_path, init_from=detector.best_checkpoint)
    after = model_of(run_dir, new_task)
    old, new = answers(before, new_task, demo_root), answers(after, new_task, demo_root)
    assert len(old) > 6
    assert sum(len(found) for found in old[3::6]) > 0
    assert all(torch.equal(one, other) for one, other in zip(old, new, strict=True))
    state = before.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in after.state_dict().items() if key in state)
    last = torch.load(run_dir.last_checkpoint, weights_only=True)
    assert all(torch.equal(state[key], tensor) for key, tensor in network_state(last, raw=True).items() if key in state)


def test_new_head_is_initialized_from_the_seed_and_trains(
    new_task: Document, detector: RunDir, train: Train, tmp_path: Path
) -> None:
    plain = copy.deepcopy(new_task)
    plain["model"] |= {"init_from": None}
    for document, init_from in ((plain, None), (new_task, detector.best_checkpoint)):
        document["model"]["optimizer"] = {"lr": 1e-30}
        document["model"]["ema"] = None
        train(document, tmp_path / str(init_from is None), init_from=init_from)
    drawn, started = (read_saved(tmp_path / name / "checkpoints/best.ckpt", "").state for name in ("True", "False"))
    key = "heads.scene.linear.weight"
    assert torch.equal(started[key], drawn[key])
    new_task["model"]["optimizer"] = {"lr": 1e-2}
    moved = read_saved(train(new_task, tmp_path / "m", init_from=detector.best_checkpoint).best_checkpoint, "").state
    assert not torch.equal(moved[key], drawn[key])


def test_run_reports_the_tensors_from_init_from_and_resumes_without_their_source(
    new_task: Document, detector: RunDir, command: Command, demo_root: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "w").mkdir()
    shutil.copytree(detector.path, tmp_path / "w" / "detector")
    job = tmp_path / "job.yaml"
    new_task["model"]["backbone"]["weights"] = "default"  # not needed, so not downloaded
    job.write_text(write_yaml(new_task))
    words = ("--config", job, "--data-root", demo_root.parent)
    assert command("check", *words, "--weights-root", tmp_path / "w") == 0
    output = capsys.readouterr().out
    assert "backbone, heads.shapes, neck taken" in output
    assert "new: heads.scene (2 tensors)" in output
    run = ("fit", *words, "--run-dir", tmp_path / "run")
    assert command(*run, "--weights-root", tmp_path / "w") == 0
    assert "backbone, heads.shapes, neck taken" in capsys.readouterr().err
    inputs = json.loads((tmp_path / "run" / "inputs.json").read_text())
    assert inputs["init_from"] == str(tmp_path / "w" / "detector" / "checkpoints" / "best.ckpt")
    shutil.rmtree(tmp_path / "w")
    (tmp_path / "run" / "result.json").unlink()
    assert command(*run, "--weights-root", tmp_path) == 0
    assert json.loads((tmp_path / "run" / "inputs.json").read_text()) == inputs


def test_missing_parts_are_not_downloaded_without_an_accepted_license(
    new_task: Document, detector: RunDir, command: Command, demo_root: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    job = tmp_path / "job.yaml"
    new_task["model"]["backbone"] = {"name": "mobileone_s0"}
    job.write_text(write_yaml(new_task | {"model": new_task["model"] | {"init_from": detector.path.name}}))
    words = ("--config", job, "--data-root", demo_root.parent, "--weights-root", detector.path.parent)
    for called in (("check",), ("fit", "--run-dir", tmp_path / "run")):
        assert command(*called, *words) == 78
        output = capsys.readouterr().err
        assert "model.backbone.accept_license: the default weights of backbone 'mobileone_s0'" in output
