"""The fine-tuning benchmark compares runs under equal conditions."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.command_line.parsers import parser_of
from pipelines.spec.load import assemble, validate_document
from pipelines.spec.transfer import frozen_parts
from tests.bench import finetuning, joint
from tests.bench.finetuning_tables import render
from tests.bench.finetuning_trials import STRATEGIES, TASKS, Trial, chosen, grid, stages, training
from tests.bench.finished_runs import Row, append_row, discard_rows, read_rows

FEWEST_IMAGES = {"detection": 52, "classification": 205}
"""Training images of the smallest share."""


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("task", TASKS)
def test_every_strategy_has_the_same_steps_and_freezes_the_backbone_as_specified(task: str, strategy: str) -> None:
    run = training(Trial(task, strategy, "25 %", 1, 5e-4), Path("images"))
    options, overrides = parser_of("fit").parse_command_line(run.options)
    job = validate_document(assemble(options.config, overrides))
    batches, epochs = job.trainer.limit_train_batches, job.trainer.max_epochs
    (source,) = job.data.sources.values()
    assert batches is not None
    assert batches * epochs == TASKS[task].steps
    assert batches * int(source.batch_size) <= FEWEST_IMAGES[task]
    assert (job.model.optimizer.lr, job.seed_everything, len(job.model.tasks)) == (5e-4, 1, 1)
    assert job.model.backbone.weights == ("none" if strategy == "scratch" else "default")
    assert bool(frozen_parts(job.model, 0)) == (strategy in ("freeze", "gradual", "lp-ft"))
    assert bool(frozen_parts(job.model, epochs - 1)) == (strategy == "freeze")


def row(trial: Trial, val: float, test: float = 0.0) -> Row:
    """Return the row of a run with one score for each split."""
    names = ("AP", "AP50") if trial.task == "detection" else ("mAP", "macro recall", "accuracy")
    scores = {"val": dict.fromkeys(names, val), "test": dict.fromkeys(names, test)}
    spent = {"cpu_s": 60.0, "wall_s": 90.0, "peak_mib": 900, "machine": "a processor", "date": "2026-11-29"}
    return {**trial.identity, **scores, **spent}


def rows_of_grid(task: str) -> list[Row]:
    """Return rows in which lower learning rates are better on val, and higher ones on test."""
    return [row(trial, val=0.5 - 100 * trial.lr, test=100 * trial.lr) for trial in grid(task)]


def test_learning_rate_is_chosen_on_val_and_used_by_the_other_runs() -> None:
    rows = rows_of_grid("detection")
    assert {chosen("detection", strategy, rows).lr for strategy in STRATEGIES} == {1e-3}
    first, *others = stages(["detection"])
    assert len(first([])) == len(set(first([]))) == 2 * len(STRATEGIES)
    found = [(trial.share, trial.seed, trial.lr) for stage in others for trial in stage(rows)]
    assert set(found) == {("25 %", 0, 1e-3), ("100 %", 1, 1e-3), ("100 %", 2, 1e-3)}
    with pytest.raises(ValueError, match="runs of full for detection have no row"):
        chosen("detection", "full", [row for row in rows if row["strategy"] != "full"])


def test_runs_with_a_row_are_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bccd/annotations").mkdir(parents=True)
    (tmp_path / "bccd/JPEGImages").mkdir()
    for split in ("train", "val", "test"):
        empty = json.dumps({"images": [], "annotations": []})
        (tmp_path / f"bccd/annotations/instances_{split}.json").write_text(empty)
    monkeypatch.setenv("PYRAMIDION_DATA_ROOTS", str(tmp_path))
    path = tmp_path / "rows.jsonl"
    for finished in rows_of_grid("classification"):
        append_row(path, finished)
    finetuning.train_missing(["classification"], tmp_path / "out", 1, path)
    assert read_rows(path) == rows_of_grid("classification")
    discard_rows(path, lambda row: row["lr"] > 1e-3)
    assert len(read_rows(path)) == len(STRATEGIES)


def test_tables_show_the_chosen_rate_and_the_mean_of_its_seeds() -> None:
    rows = rows_of_grid("detection")
    rows.append(row(Trial("detection", "full", "100 %", 1, 1e-3), val=0.0, test=0.25))
    rows.append(row(Trial("detection", "full", "25 %", 0, 1e-3), val=0.0, test=0.125))
    shown = "\n".join(render(rows))
    assert "| full | **0.400** | 0.300 |" in shown
    assert "| full, 0.001 | 0.175 (0.100 to 0.250) | 0.175 (0.100 to 0.250) | 60 (60 to 60) |" in shown
    assert "| 0.125 | 0.125 |" in shown


def test_figures_of_classes_skip_those_with_few_images() -> None:
    classes: list[dict[str, Any]] = [
        {"top1_support": 30, "top1_recall": 0.9, "ap": 0.8},
        {"top1_support": 10, "top1_recall": 0.5, "ap": 0.4},
        {"top1_support": 2, "top1_recall": 0.0, "ap": 0.0},
        {"top1_support": 0, "top1_recall": None, "ap": None},
    ]
    found = finetuning.figures("classification", {"subtype": {"per_class": classes}})
    assert found == {"mAP": 0.6, "macro recall": 0.7, "accuracy": 0.8}


def test_page_has_the_tables_of_the_committed_rows() -> None:
    page = (finetuning.ROWS.parents[2] / "docs/finetuning.md").read_text("utf-8").splitlines()
    tables = [line for part in render(read_rows(finetuning.ROWS)) for line in part.splitlines() if line[:1] == "|"]
    assert [line for line in tables if line not in page] == []


def test_quarter_has_every_fourth_image_with_all_its_objects() -> None:
    document = {
        "categories": [{"id": 1}],
        "images": [{"id": 10 - number, "file_name": f"{number}.jpg"} for number in range(10)],
        "annotations": [{"id": number, "image_id": 10 - number // 2} for number in range(20)],
    }
    kept = finetuning.thinned(document, 4)
    assert [image["file_name"] for image in kept["images"]] == ["0.jpg", "4.jpg", "8.jpg"]
    assert [annotation["id"] for annotation in kept["annotations"]] == [0, 1, 8, 9, 16, 17]
    assert kept["categories"] == document["categories"]


@pytest.mark.parametrize("start", joint.STARTS)
@pytest.mark.parametrize("model", joint.MODELS)
def test_single_models_are_the_recipe_with_one_task(start: str, model: str) -> None:
    _, changes = joint.STARTS[start]
    job = joint.validate_document(joint.document_of(joint.MODELS[model], changes))
    whole = joint.validate_document(joint.document_of(joint.MODELS["joint"], changes))
    assert tuple(job.model.tasks) == joint.MODELS[model]
    for name in set(job.model.tasks) - {"boxes"}:
        assert job.model.tasks[name].model_copy(update={"boxes_from": None}) == whole.model.tasks[name]
    assert job.trainer == whole.trainer
    assert job.model.optimizer == whole.model.optimizer
