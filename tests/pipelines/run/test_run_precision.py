"""The precision of a run with `precision: auto`, when it starts and when it resumes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from backbones.depthwise import compute_slow_depthwise_in_float32, num_float32_convolutions
from pipelines.data.dataset.index import build_index
from pipelines.preflight import Inputs
from pipelines.run.attempt import Attempt
from pipelines.run.dry_run import dry_run
from pipelines.run.folder_setup import write_documents
from pipelines.run.run_precision import describe_precision, new_precision, precision_of_run
from pipelines.run_folder.layout import RunDir
from pipelines.run_folder.schemas import RunInputs, RunPrecision
from pipelines.spec.load import apply_override, validate_document, write_yaml
from pipelines.spec.training import TrainerSpec
from pipelines.training.stopping import StopRequest
from pipelines.training.trainer import precision_of

Document = dict[str, Any]
AUTO = TrainerSpec(accelerator="cpu")
MIXED = RunPrecision(name="bf16-mixed", float32_depthwise=True)


@pytest.fixture
def depthwise(small: Document) -> Document:
    document = apply_override(small, "model.backbone", {"name": "mobilenet_v3_small", "weights": "none"})
    return apply_override(apply_override(document, "trainer.precision", "auto"), "trainer.max_epochs", 1)


def test_auto_computes_slow_convolutions_in_float32_where_it_is_bf16() -> None:
    name = precision_of(AUTO)
    assert new_precision(AUTO) == RunPrecision(name=name, float32_depthwise=name == "bf16-mixed")
    for explicit in ("32-true", "bf16-mixed"):
        spec = TrainerSpec(accelerator="cpu", precision=explicit)
        assert new_precision(spec) == RunPrecision(name=explicit)


@pytest.mark.parametrize("stored", [MIXED, RunPrecision(name="32-true"), None])
def test_resumed_run_keeps_its_precision(stored: RunPrecision | None, depthwise: Document, tmp_path: Path) -> None:
    run_dir, job = RunDir.of(tmp_path), validate_document(depthwise)
    write_documents(run_dir, depthwise, job, Inputs(tmp_path, "none"), stored)
    assert precision_of_run(AUTO, run_dir) == (stored or RunPrecision(name=precision_of(AUTO)))
    explicit = TrainerSpec(accelerator="cpu", precision="16-mixed")
    assert precision_of_run(explicit, run_dir) == RunPrecision(name="16-mixed")
    run_dir.last_checkpoint.parent.mkdir()
    run_dir.last_checkpoint.touch()
    write_documents(run_dir, depthwise, job, Inputs(tmp_path / "moved", "none"), RunPrecision(name="other"))
    kept = RunInputs.read(run_dir.inputs_json)
    assert (kept.precision, kept.data) == (stored, str(tmp_path / "moved"))


def test_attempt_builds_the_network_and_the_trainer_with_the_stored_precision(
    depthwise: Document, demo_root: Path, tmp_path: Path
) -> None:
    run_dir, job, inputs = RunDir.of(tmp_path), validate_document(depthwise), Inputs(demo_root, "none")
    index, report = build_index(job, demo_root)
    numbers = []
    for precision in (MIXED, RunPrecision(name="bf16-mixed"), RunPrecision(name="32-true")):
        write_documents(run_dir, depthwise, job, inputs, precision)
        parts = Attempt(job, inputs, index, report, run_dir, StopRequest()).build()
        assert parts.trainer.precision == precision.name
        numbers.append(num_float32_convolutions(parts.module))
    assert numbers == [10, 0, 0]


def test_number_of_float32_convolutions_is_described() -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 5, groups=4))
    assert describe_precision("bf16-mixed", network) == "bf16-mixed"
    compute_slow_depthwise_in_float32(network)
    assert describe_precision("bf16-mixed", network) == "bf16-mixed (1 depthwise convolution in float32)"


def test_dry_run_reports_the_precision(depthwise: Document, demo_root: Path) -> None:
    job = validate_document(depthwise)
    report = dry_run(job, Inputs(demo_root, "none"), *build_index(job, demo_root)).to_dict()
    name = precision_of(AUTO)
    expected = f"{name} (10 depthwise convolutions in float32)" if name == "bf16-mixed" else name
    assert report["precision"] == expected


def test_result_names_the_precision_and_validate_reproduces_the_scores(
    depthwise: Document, command: Callable[..., int], demo_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "job.yaml").write_text(write_yaml(apply_override(depthwise, "data.image_size", 64)))
    run_dir = RunDir.of(tmp_path / "run")
    words = ("--config", tmp_path / "job.yaml", "--data.root", demo_root, "--run-dir", run_dir.path)
    assert command("fit", *words) == 0
    result = json.loads(run_dir.result.read_text())
    decided = new_precision(AUTO)
    assert RunInputs.read(run_dir.inputs_json).precision == decided
    assert result["model"]["precision"] == decided.name
    assert result["model"].get("float32_convolutions") == (10 if decided.float32_depthwise else None)
    assert command("validate", "--run-dir", run_dir.path) == 0
    (validated,) = (run_dir.path / "eval").glob("validate-*")
    again = json.loads((validated / "result.json").read_text())
    assert again["summary"] == pytest.approx(result["val"]["summary"], abs=1e-6)
    assert again["model"].get("float32_convolutions") == result["model"].get("float32_convolutions")
