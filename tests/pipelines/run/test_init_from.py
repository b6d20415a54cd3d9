"""A run that begins from another one: what was learned there stays, what is new is drawn as ever."""

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipelines.data.datamodule import JobData
from pipelines.data.index import build_index
from pipelines.errors import ConfigError, RegistryError
from pipelines.inference.export import load_exported
from pipelines.inference.saved import network_state, read_checkpoint, read_saved
from pipelines.model import MultiTaskModel
from pipelines.run.beginning import registered_at_hand, with_version
from pipelines.run.preflight import Inputs
from pipelines.run.revisit import best_model
from pipelines.run_folder.layout import RunDir
from pipelines.spec.learning import SelectSpec
from pipelines.spec.load import validate_document, write_yaml
from pipelines.tracking.mlflow_store import connect, find_experiment
from pipelines.tracking.registry import Registry

Document = dict[str, Any]
Command = Callable[..., int]
Train = Callable[..., RunDir]

ROOT = Path(__file__).parents[3]


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
    """A detector of shapes; its neck has BatchNorm, and it is averaged."""
    document = with_tasks(small, "shapes")
    run_dir = train(document, tmp_path_factory.mktemp("detector"))
    run_dir.config_yaml.write_text(write_yaml(document))
    return run_dir


@pytest.fixture
def new_task(small: Document) -> Document:
    """A document that adds a task to what `detector` knows, and leaves all else as it is."""
    document = with_tasks(small, "shapes", "scene")
    document["model"] |= {
        "init_from": "detector",
        "transfer": "freeze",
        "lr_scale": {"stages": {"neck": 0}, "tasks": {"shapes": 0}},
    }
    return document


def model_of(run_dir: RunDir, document: Document) -> MultiTaskModel:
    best = torch.load(run_dir.best_checkpoint, weights_only=True)
    return best_model(validate_document(document), best)[0].eval()


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


def test_with_the_shared_part_frozen_an_old_task_answers_bit_by_bit_as_before(
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


def test_new_head_begins_as_the_seed_draws_it_and_moves(
    new_task: Document, detector: RunDir, train: Train, tmp_path: Path
) -> None:
    plain = copy.deepcopy(new_task)
    plain["model"] |= {"init_from": None}
    for document, init_from in ((plain, None), (new_task, detector.best_checkpoint)):
        document["model"]["optimizer"] = {"lr": 1e-30}
        document["model"]["ema"] = None
        train(document, tmp_path / str(init_from is None), init_from=init_from)
    drawn, begun = (read_saved(tmp_path / name / "checkpoints/best.ckpt", "").state for name in ("True", "False"))
    key = "heads.scene.linear.weight"
    assert torch.equal(begun[key], drawn[key])
    new_task["model"]["optimizer"] = {"lr": 1e-2}
    moved = read_saved(train(new_task, tmp_path / "m", init_from=detector.best_checkpoint).best_checkpoint, "").state
    assert not torch.equal(moved[key], drawn[key])


def test_run_tells_what_it_took_and_goes_on_without_it(
    new_task: Document, detector: RunDir, command: Command, demo_root: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "w").mkdir()
    shutil.copytree(detector.path, tmp_path / "w" / "detector")
    job = tmp_path / "job.yaml"
    new_task["model"]["backbone"]["weights"] = "default"  # not needed, and so not fetched
    job.write_text(write_yaml(new_task))
    words = ("--config", job, "--data-root", demo_root.parent)
    assert command("check", *words, "--weights-root", tmp_path / "w") == 0
    told = capsys.readouterr().out
    assert "backbone, heads.shapes, neck taken" in told
    assert "new: heads.scene (2 tensors)" in told
    run = ("fit", *words, "--run_dir", tmp_path / "run")
    assert command(*run, "--weights-root", tmp_path / "w") == 0
    assert "backbone, heads.shapes, neck taken" in capsys.readouterr().err
    inputs = json.loads((tmp_path / "run" / "inputs.json").read_text())
    assert inputs["init_from"] == str(tmp_path / "w" / "detector" / "checkpoints" / "best.ckpt")
    shutil.rmtree(tmp_path / "w")
    (tmp_path / "run" / "result.json").unlink()
    assert command(*run, "--weights-root", tmp_path) == 0
    assert json.loads((tmp_path / "run" / "inputs.json").read_text()) == inputs


def test_last_checkpoint_gives_the_averaged_weights_and_the_best_ones_its_classes(detector: RunDir) -> None:
    saved = read_saved(detector.last_checkpoint, "model.init_from")
    content = torch.load(detector.last_checkpoint, weights_only=True)
    assert saved.state.keys() == read_saved(detector.best_checkpoint, "").state.keys()
    key = "heads.shapes.class_output.bias"
    assert torch.equal(saved.state[key], content["state_dict"][f"model.{key}"])
    assert not torch.equal(saved.state[key], content["current_model_state"][f"model.{key}"])
    assert saved.categories is not None
    assert saved.categories == read_saved(detector.best_checkpoint, "").categories
    assert (saved.backbone, saved.head("shapes")) == ("resnet14_thin", "fcos")


def test_checkpoint_alone_has_no_document_and_the_last_one_no_classes(detector: RunDir, tmp_path: Path) -> None:
    for checkpoint in (detector.best_checkpoint, detector.last_checkpoint):
        shutil.copy(checkpoint, tmp_path)
    best, last = (read_saved(tmp_path / name, "") for name in ("best.ckpt", "last.ckpt"))
    assert (best.backbone, best.head("shapes")) == (None, None)
    assert best.categories is not None
    assert last.categories is None


def test_exported_model_gives_what_it_was_exported_from(finished: RunDir) -> None:
    saved, (model, job, categories) = read_saved(finished.model, ""), load_exported(finished.model)
    assert saved.categories == categories
    assert saved.backbone == job.model.backbone.name
    state = model.state_dict()
    assert state.keys() == saved.state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in saved.state.items())


class Trap:
    """Would run code where a reader lets it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("trapped",))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no zip", "model.init_from: .* holds no network of ours"),
        ({"state_dict": {"conv1.weight": torch.ones(1)}}, "its tensors are not named as ours are; .*backbone.weights"),
        ({"conv1.weight": torch.ones(1)}, "it has no state_dict"),
        ({"state_dict": {"backbone.a": torch.ones(1)}, "categories": [1]}, "its categories or its document cannot"),
        ({"state_dict": Trap()}, "holds no network of ours"),
    ],
)
def test_file_that_is_no_checkpoint_of_ours_is_refused(
    content: Any, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ConfigError, match=reason):
        read_saved(path, "model.init_from")
    assert not (tmp_path / "trapped").exists()


def register(registry: Registry, run_dir: RunDir, name: str) -> None:
    client = connect(registry.store)
    run_id = client.create_run(find_experiment(client, registry.store, "tests")).info.run_id
    registry.register(
        run_dir.model, name=name, run_id=run_id, metrics={}, select=SelectSpec(metric="val/x/AP"), val_fingerprint="v"
    )


@pytest.fixture
def runs_root(registry: Registry, mlflow_runs_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this process looks for the registry."""
    monkeypatch.setenv("PYRAMIDION_RUNS_ROOT", str(mlflow_runs_root))


@pytest.mark.usefixtures("runs_root")
def test_registered_model_is_at_hand_while_the_run_needs_it(
    registry: Registry, finished: RunDir, tmp_path: Path
) -> None:
    register(registry, finished, "begin")
    inputs = with_version(Inputs(tmp_path, "none", "models:/begin@candidate"))
    assert inputs.init_from == "models:/begin/1"
    run_dir = RunDir.of(tmp_path)
    with registered_at_hand(inputs, run_dir):
        state, expected = read_saved(run_dir.init_from, "").state, read_saved(finished.model, "").state
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], expected[key]) for key in state)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("runs_root")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("models:/nobody@champion", "no such model"),
        ("models:/asked@champion", "its aliases are candidate"),
        ("models:/asked/7", "its aliases are candidate"),
    ],
)
def test_model_that_is_not_registered_is_told_before_anything_starts(
    name: str, told: str, registry: Registry, new_task: Document, finished: RunDir, command: Command, demo_root: Path,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if registry.aliases("asked") is None:
        register(registry, finished, "asked")
    new_task["model"]["init_from"] = name
    (tmp_path / "job.yaml").write_text(write_yaml(new_task))
    words = ("--config", tmp_path / "job.yaml", "--data-root", demo_root.parent)
    assert command("fit", *words, "--run_dir", tmp_path / "run") == 78
    assert f"model.init_from: got {name!r}; MLflow at " in (error := capsys.readouterr().err)
    assert told in error
    assert not (tmp_path / "run" / "inputs.json").exists()
    assert command("check", *words) == 78


def test_asking_for_a_registered_model_makes_no_store(no_mlflow_settings: None, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no MLflow store sqlite:"):
        with_version(Inputs(tmp_path, "none", "models:/a@b"))
    assert list(Path().iterdir()) == []


def test_registry_that_does_not_answer_is_told_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, no_mlflow_settings: None, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match=r"model\.init_from: .* cannot be had, so that the run has not started"):
        with_version(Inputs(tmp_path, "none", "models:/a@b"))


@pytest.mark.slow
def test_all_ranks_begin_from_the_registered_model(
    new_task: Document, finished: RunDir, registry: Registry, mlflow_runs_root: Path, demo_root: Path, tmp_path: Path
) -> None:
    if registry.aliases("two") is None:
        register(registry, finished, "two")
    new_task["trainer"]["devices"] = 2
    new_task["model"]["init_from"] = "models:/two@candidate"
    (tmp_path / "job.yaml").write_text(write_yaml(new_task))
    done = subprocess.run(
        [
            sys.executable, "-m", "pipelines.cli", "fit", "--config", "job.yaml", "--run_dir", "run",
            "--data.root", str(demo_root),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYRAMIDION_RUNS_ROOT": str(mlflow_runs_root)},
        capture_output=True,
        text=True,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 process(es)" in done.stderr
    assert "backbone, heads.scene, heads.shapes, neck taken" in done.stderr
    assert json.loads((tmp_path / "run" / "inputs.json").read_text())["init_from"] == "models:/two/1"
    assert not (tmp_path / "run" / "init_from").exists()
    source = read_saved(finished.model, "").state
    # Rank 1's averages and gradients would have pulled another beginning apart: frozen parts are all as they were.
    for content in (RunDir.of(tmp_path / "run").best_checkpoint, RunDir.of(tmp_path / "run").last_checkpoint):
        state = network_state(read_checkpoint(content, ""), raw=True)
        frozen = [key for key in state if not key.startswith("heads.scene.")]
        assert all(torch.equal(state[key], source[key]) for key in frozen)
