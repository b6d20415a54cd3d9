"""A registered model that a run starts from is looked up before anything starts, and kept while it is needed."""

import hashlib
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

from backbones.weights_sources.rows import DETECTORS
from backbones.weights_sources.url_file import UrlFile
from pipelines.base.errors import ConfigError, RegistryError
from pipelines.inference.saved import network_state, read_checkpoint, read_saved
from pipelines.preflight import Inputs
from pipelines.run.init_source import init_source, pin_version, provided_source
from pipelines.run_folder.layout import RunDir
from pipelines.spec.learning import SelectSpec
from pipelines.spec.load import write_yaml
from pipelines.tracking.mlflow_store import connect, find_experiment
from pipelines.tracking.pyfunc_folder import ARTIFACT
from pipelines.tracking.registry import Registry

Document = dict[str, Any]
Command = Callable[..., int]

ROOT = Path(__file__).parents[3]


def register(registry: Registry, run_dir: RunDir, name: str) -> None:
    client = connect(registry.store)
    run_id = client.create_run(find_experiment(client, registry.store, "tests")).info.run_id
    registry.register(
        run_dir.model, name=name, run_id=run_id, metrics={}, select=SelectSpec(metric="val/x/AP"), val_fingerprint="v"
    )


@pytest.fixture
def runs_root(registry: Registry, mlflow_runs_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point this process to the registry."""
    monkeypatch.setenv("PYRAMIDION_RUNS_ROOT", str(mlflow_runs_root))


@pytest.mark.usefixtures("runs_root")
def test_registered_model_is_kept_while_the_run_needs_it(registry: Registry, finished: RunDir, tmp_path: Path) -> None:
    register(registry, finished, "start")
    inputs = pin_version(Inputs(tmp_path, "none", "models:/start@candidate"))
    assert inputs.init_from == "models:/start/1"
    run_dir = RunDir.of(tmp_path)
    with provided_source(inputs, run_dir):
        state, expected = read_saved(run_dir.init_from, "").state, read_saved(finished.model, "").state
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], expected[key]) for key in state)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("runs_root")
def test_registered_model_is_downloaded_to_any_folder(registry: Registry, tmp_path: Path) -> None:
    name = "fetched"
    exported = tmp_path / "source" / "artifacts" / ARTIFACT
    exported.mkdir(parents=True)
    (exported / "model.json").write_text("{}")
    client = connect(registry.store)
    client.create_registered_model(name)
    client.create_model_version(name, (tmp_path / "source").as_uri())
    source = init_source(f"models:/{name}/1", run_dir=None)
    assert source.problem() is None
    fetched = source.fetch(tmp_path / "to")
    assert (fetched, [file.name for file in fetched.iterdir()]) == (tmp_path / "to" / "fetched-1", ["model.json"])
    shutil.rmtree(tmp_path / "source")
    assert source.fetch(tmp_path / "to") == fetched
    with pytest.raises(ValueError, match="but its files are missing: restore them or delete it"):
        source.fetch(tmp_path / "elsewhere")


@pytest.mark.usefixtures("runs_root")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("models:/absent@champion", "the model is not registered"),
        ("models:/known@champion", "the model's aliases are candidate"),
        ("models:/known/7", "the model's aliases are candidate"),
    ],
)
def test_missing_registered_model_is_reported_before_anything_starts(
    name: str, expected: str, registry: Registry, small_document: Document, finished: RunDir, command: Command,
    demo_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if registry.aliases("known") is None:
        register(registry, finished, "known")
    small_document["model"]["init_from"] = name
    (tmp_path / "job.yaml").write_text(write_yaml(small_document))
    words = ("--config", tmp_path / "job.yaml", "--data-root", demo_root.parent)
    assert command("fit", *words, "--run-dir", tmp_path / "run") == 78
    assert f"model.init_from: got {name!r}, which is not in MLflow at " in (error := capsys.readouterr().err)
    assert expected in error
    assert not (tmp_path / "run" / "inputs.json").exists()
    assert command("check", *words) == 78


def test_lookup_of_a_registered_model_creates_no_store(no_mlflow_settings: None, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the MLflow store sqlite:.* does not exist"):
        pin_version(Inputs(tmp_path, "none", "models:/a@b"))
    assert list(Path().iterdir()) == []


def test_unreachable_registry_is_reported_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, no_mlflow_settings: None, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match=r"model\.init_from: .* is not available, so the run was not started"):
        pin_version(Inputs(tmp_path, "none", "models:/a@b"))


def test_published_detector_without_network_is_reported_before_anything_starts(
    small_document: Document, command: Command, demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    small_document["model"]["init_from"] = "tv:fcos_resnet50_fpn"
    (tmp_path / "job.yaml").write_text(write_yaml(small_document))
    words = ("--config", tmp_path / "job.yaml", "--data-root", demo_root.parent)
    for called in (("fit", "--run-dir", tmp_path / "run"), ("check",)):
        assert command(*called, *words) == 78
        error = capsys.readouterr().err
        assert (
            "model.init_from: the weights of fcos_resnet50_fpn are not on this machine: fcos_resnet50_fpn_coco-"
            in error
        )
        assert "put the file below a weights root, and write its name instead" in error
    assert not (tmp_path / "run" / "inputs.json").exists()


def test_cached_published_detector_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    detector = UrlFile(f"https://localhost/fcos-{hashlib.sha256(b'weights').hexdigest()[:8]}.pth", "mit")
    monkeypatch.setitem(DETECTORS, "fcos_resnet50_fpn", detector)
    inputs, run_dir = Inputs(tmp_path, "none", "tv:fcos_resnet50_fpn"), RunDir.of(tmp_path / "run")
    detector.cache.mkdir(parents=True)
    file = detector.cache / detector.file_name
    file.write_bytes(b"weights")
    assert pin_version(inputs) == inputs
    with provided_source(inputs, run_dir):
        assert init_source("tv:fcos_resnet50_fpn", run_dir).provide() == file
    assert not run_dir.path.exists()
    file.write_bytes(b"damaged")
    with (
        pytest.raises(ConfigError, match=r"model\.init_from: .* is not the published file"),
        provided_source(inputs, run_dir),
    ):
        pass


@pytest.mark.slow
def test_all_ranks_start_from_the_registered_model(
    small_document: Document,
    finished: RunDir,
    registry: Registry,
    mlflow_runs_root: Path,
    demo_root: Path,
    tmp_path: Path,
) -> None:
    if registry.aliases("two") is None:
        register(registry, finished, "two")
    small_document["trainer"]["devices"] = 2
    small_document["model"]["init_from"] = "models:/two@candidate"
    small_document["model"] |= {"transfer": "freeze", "lr_scale": {"stages": {"neck": 0}, "tasks": {"shapes": 0}}}
    small_document["trainer"]["max_epochs"] = 1
    small_document["tracking"] = {"experiment": "tests"}
    (tmp_path / "job.yaml").write_text(write_yaml(small_document))
    done = subprocess.run(
        [
            sys.executable, "-m", "pipelines.cli", "fit", "--config", "job.yaml", "--run-dir", "run",
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
    assert "backbone, heads.identity, heads.scene, heads.shapes, neck taken" in done.stderr
    assert json.loads((tmp_path / "run" / "inputs.json").read_text())["init_from"] == "models:/two/1"
    assert not (tmp_path / "run" / "init_from").exists()
    run_id = json.loads((tmp_path / "run" / "tracking.json").read_text())["run_id"]
    assert connect(registry.store).get_run(run_id).data.tags["init_from"] == "models:/two/1"
    source = read_saved(finished.model, "").state
    for content in (RunDir.of(tmp_path / "run").best_checkpoint, RunDir.of(tmp_path / "run").last_checkpoint):
        state = network_state(read_checkpoint(content, ""), raw=True)
        frozen = [key for key in state if not key.startswith(("heads.scene.", "heads.identity."))]
        assert all(torch.equal(state[key], source[key]) for key in frozen)
