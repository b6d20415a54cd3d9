"""`check`: data, network and trained parts of a job, as text and as JSON."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.base.errors import ConfigError
from pipelines.data.dataset.index import build_index
from pipelines.model import build_model
from pipelines.preflight import Inputs
from pipelines.run.dry_run import dry_run
from pipelines.spec.load import apply_override, resolved, validate_document

Document = dict[str, Any]


def test_every_parameter_is_counted_once(small: Document, demo_root: Path) -> None:
    job = validate_document(small)
    report = dry_run(job, Inputs(demo_root, "none"), *build_index(job, demo_root))
    model = build_model(job.model, build_index(job, demo_root)[0].categories)
    assert list(report.parameters) == ["c3", "c4", "c5", "heads", "neck"]
    assert sum(report.parameters.values()) == sum(p.numel() for p in model.parameters())
    assert report.count(0) == sum(report.parameters.values())


@pytest.mark.parametrize(("unfreeze", "frozen"), [("none", {"c3", "c4", "c5"}), (["c5"], {"c3", "c4"})])
def test_frozen_stages_do_not_count_as_trainable(
    small: Document, demo_root: Path, unfreeze: object, frozen: set[str]
) -> None:
    job = validate_document(apply_override(small, "model.unfreeze", {0: unfreeze}))
    report = dry_run(job, Inputs(demo_root, "none"), *build_index(job, demo_root))
    assert set(report.parameters) - set(report.trainable[0]) == frozen
    assert report.count(0) == sum(n for stage, n in report.parameters.items() if stage not in frozen)


def test_frozen_heads_do_not_count_as_trainable(small: Document, demo_root: Path) -> None:
    job = validate_document(apply_override(small, "model.lr_scale.tasks", {"shapes": 0}))
    report = dry_run(job, Inputs(demo_root, "none"), *build_index(job, demo_root))
    assert report.trainable[0] == ["c3", "c4", "c5", "heads", "neck"]
    assert report.count(0) == sum(report.parameters.values()) - report.parts["heads.shapes"]
    job = validate_document(apply_override(small, "model.lr_scale.tasks", dict.fromkeys(small["model"]["tasks"], 0)))
    assert dry_run(job, Inputs(demo_root, "none"), *build_index(job, demo_root)).trainable[0] == [
        "c3",
        "c4",
        "c5",
        "neck",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"conv1.weight": torch.zeros(1).expand(10**13)}, "more elements than are stored"),
        ({"conv1.weight": torch.full((4,), torch.nan)}, "values that are not finite"),
        ({"encoder.weight": torch.zeros(4)}, "nothing in this file fits"),
        (None, "neither a safetensors file nor a plain state dict"),
    ],
)
def test_weights_that_fit_refuses_are_refused_by_check(
    small: Document, demo_root: Path, tmp_path: Path, content: dict[str, torch.Tensor] | None, message: str
) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(b"damaged") if content is None else torch.save(content, path)
    job = validate_document(apply_override(small, "model.backbone.weights", path.name))
    with pytest.raises(ConfigError, match=message):
        dry_run(job, Inputs(demo_root, str(path)), *build_index(job, demo_root))


def test_model_to_start_from_that_fit_refuses_is_refused_by_check(
    small: Document, demo_root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "best.ckpt"
    torch.save({"state_dict": {"backbone.mean": torch.zeros(1).expand(10**13)}}, path)
    job = validate_document(apply_override(small, "model.init_from", path.name))
    with pytest.raises(ConfigError, match=r"backbone\.mean has more elements than are stored"):
        dry_run(job, Inputs(demo_root, "none", str(path)), *build_index(job, demo_root))


def test_class_weights_that_fit_refuses_are_refused_by_check(small: Document, demo_root: Path) -> None:
    job = validate_document(apply_override(small, "model.tasks.scene.class_weights", {"nowhere": 2.0}))
    with pytest.raises(ConfigError, match="nowhere"):
        dry_run(job, Inputs(demo_root, "none"), *build_index(job, demo_root))


def test_check_prints_one_json_document(
    command: Callable[..., int],
    job_yaml: Path,
    small: Document,
    demo_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("check", "--config", job_yaml, "--data-root", demo_root.parent, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["config"] == resolved(validate_document(small))
    assert printed["data_report"]["num_errors"] == 0
    assert {row["stage"] for row in printed["stages"]} == {"c3", "c4", "c5", "heads", "neck"}
    assert printed["trainable"][0]["parameters"] == sum(row["parameters"] for row in printed["stages"])
    assert list(tmp_path.iterdir()) == []


def test_check_prints_which_parts_would_train_and_the_augmentation(
    command: Callable[..., int], job_yaml: Path, demo_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("check", "--config", job_yaml, "--data-root", demo_root.parent) == 0
    printed = capsys.readouterr().out
    assert "from epoch 1: " in printed
    assert "  scale_jitter   range: [0.8, 1.25]\n" in printed


def test_check_prints_each_problem_as_json(
    command: Callable[..., int], job_yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = ("--model.backbone.name", "resnet5O", "--data-root", tmp_path)
    assert command("check", "--config", job_yaml, "--json", *wrong) == 78
    problems = json.loads(capsys.readouterr().out)
    assert [problem["field"] for problem in problems] == ["model.backbone.name", "data.root"]
    assert "did you mean 'resnet50'" in problems[0]["message"]
