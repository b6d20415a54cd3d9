"""The plan lists the rate, weight decay and epochs of each parameter group, as text and as JSON."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.data.dataset.index import build_index
from pipelines.model import build_model
from pipelines.optim.param_groups import create_optimizer
from pipelines.run.estimate import Estimate
from pipelines.run.plan import Epochs, PlanRow, epochs_of, make_plan, render_plan
from pipelines.run_folder.events import read_events
from pipelines.run_folder.layout import RunDir
from pipelines.spec.learning import ScheduleSpec
from pipelines.spec.load import apply_override, validate_document, write_yaml
from pipelines.spec.model import ModelSpec
from pipelines.training.balancing import create_balance

Document = dict[str, Any]
Command = Callable[..., int]

ROOT = Path(__file__).parents[3]
BASE = "neck", "heads.identity", "heads.scene", "heads.shapes"


def spec_of(document: Document, max_epochs: int = 20, **values: Any) -> ModelSpec:
    document = apply_override(document, "trainer.max_epochs", max_epochs)
    for name, value in values.items():
        document = apply_override(document, f"model.{name}", value)
    return validate_document(document).model


def plan_of(spec: ModelSpec, document: Document, demo_root: Path) -> list[PlanRow]:
    categories = build_index(validate_document(document), demo_root)[0].categories
    return make_plan(build_model(spec, categories), spec, {"balance": create_balance(spec)})


def test_plan_of_a_gradual_job_has_rates_and_epochs_of_each_part(small: Document, demo_root: Path) -> None:
    spec = spec_of(small, transfer="gradual", balance="uncertainty")
    printed = [
        (row.group, pytest.approx(row.rate), row.weight_decay, ", ".join(map(str, row.trains)))
        for row in plan_of(spec, small, demo_root)
    ]
    # The rate is 2e-3 and decays by 0.6 per stage; one more stage trains after each tenth of 20 epochs.
    parts = [("c3", 4.32e-4, "7-"), ("c4", 7.2e-4, "5-"), ("c5", 1.2e-3, "3-"), *((part, 2e-3, "1-") for part in BASE)]
    expected = [
        (f"{part}/{group}", rate, decay, epochs)
        for part, rate, epochs in parts
        for group, decay in (("decay", 0.05), ("no_decay", 0.0))
    ]
    assert printed == [*expected, ("balance/no_decay", 2e-3, 0.0, "1-")]


@pytest.mark.parametrize("by", ["stage", "layer"])
def test_plan_has_the_optimizer_groups_and_each_parameter_once(by: str, small: Document, demo_root: Path) -> None:
    spec = spec_of(small, layer_decay_by=by, layer_decay=0.5)
    categories = build_index(validate_document(small), demo_root)[0].categories
    model = build_model(spec, categories)
    rows = make_plan(model, spec, {})
    groups = create_optimizer(model, spec, fused=False).param_groups
    assert [(row.group, row.rate, row.tensors) for row in rows] == [
        (group["name"], group["lr"], len(group["params"])) for group in groups
    ]
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in model.parameters())


def test_epochs_of_parts_that_are_frozen_again_or_never_train(small: Document) -> None:
    unfreeze = {0: ["c5"], 4: "none", 8: ["c5", "c4"], 9: "all", 10: ["c5", "c3"]}
    spec = spec_of(small, unfreeze=unfreeze, lr_scale={"stages": {"neck": 0}, "tasks": {"scene": 0}})
    assert epochs_of("c5", spec) == (Epochs(0, 3), Epochs(8, None))
    assert epochs_of("c4", spec) == (Epochs(8, 9),)
    assert epochs_of("c3", spec) == (Epochs(9, None),)
    assert epochs_of("neck", spec) == epochs_of("heads.scene", spec) == ()
    assert epochs_of("heads.shapes", spec) == epochs_of(None, spec) == (Epochs(0, None),)


def test_table_has_one_line_for_each_group() -> None:
    rows = [
        PlanRow("c3/decay", 1234567, 12, 0.000432, 0.05, ()),
        PlanRow("layer 10/no_decay", 64, 5, 0.002, 0.0, (Epochs(0, 3), Epochs(5, 5), Epochs(8, None))),
    ]
    assert render_plan(rows, ScheduleSpec(warmup_steps=7)).splitlines() == [
        "group              parameters  tensors      rate  decay  epochs",
        "c3/decay            1,234,567       12  0.000432   0.05  never",
        "layer 10/no_decay          64        5     0.002      0  1-4, 6, 9-",
        "rates are those at the maximum of the schedule: a warm-up of 7 steps, then cosine",
    ]
    assert render_plan(rows, ScheduleSpec(decay="constant")).endswith("schedule: constant")


def test_plan_command_prints_the_table_and_writes_nothing(
    command: Command,
    job_yaml: Path,
    demo_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    freeze = ("--model.transfer", "freeze")
    assert command("plan", "--config", job_yaml, "--data-root", demo_root.parent, "--no-measure", *freeze) == 0
    done = capsys.readouterr()
    heading, *lines, _, precision = done.out.splitlines()
    assert heading.split() == ["group", "parameters", "tensors", "rate", "decay", "epochs"]
    assert precision == "precision: 32-true"
    assert {line.split("/")[0]: line.split()[-1] for line in lines} == {
        **dict.fromkeys(("c3", "c4", "c5"), "never"),
        **dict.fromkeys(BASE, "1-"),
    }
    assert [line for line in done.err.splitlines() if line.startswith("warning: model.unfreeze: c3, c4, c5 of")]
    assert list((tmp_path / "empty").iterdir()) == []


def test_plan_prints_one_json_document(
    command: Command, job_yaml: Path, demo_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--model.unfreeze", "{0: [c5], 1: none}", "--json", "--no-measure")
    assert command("plan", "--config", job_yaml, "--data-root", demo_root.parent, *more) == 0
    rows = {row["group"]: row for row in json.loads(capsys.readouterr().out)["groups"]}
    assert rows["c5/decay"]["trains"] == [{"first": 0, "last": 0}]
    assert rows["c3/decay"]["trains"] == []
    assert rows["neck/no_decay"] == {
        "group": "neck/no_decay",
        "parameters": rows["neck/no_decay"]["parameters"],
        "tensors": rows["neck/no_decay"]["tensors"],
        "rate": 2e-3,
        "weight_decay": 0.0,
        "trains": [{"first": 0, "last": None}],
    }


def test_plan_estimates_time_and_memory_from_measured_steps(
    command: Command, small_document: Document, demo_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_document["model"] |= {
        "backbone": {"name": "timm:test_resnet", "weights": "none"},
        "tasks": {"scene": {"head": "multilabel"}},
    }
    del small_document["data"]["sources"]["shapes"]["labels"][0]
    small_document["data"] |= {"image_size": 32}
    (tmp_path / "job.yaml").write_text(write_yaml(apply_override(small_document, "trainer.devices", 2)))
    assert command("plan", "--config", tmp_path / "job.yaml", "--data.root", demo_root, "--json") == 0
    estimate = json.loads(capsys.readouterr().out)["estimate"]
    assert (estimate["device"], estimate["batch_sizes"]) == ("cpu", {"shapes": 4})
    assert (estimate["num_processes"], estimate["num_epochs"], estimate["num_batches"]) == (2, 2, 3)
    steps_s, validations_s = 6 * estimate["step_s"], 2 * estimate["validation_s"]
    assert 0 < steps_s + validations_s < estimate["total_s"]
    assert 0 < estimate["memory_bytes"] < estimate["memory_limit_bytes"]
    assert "one process was measured, without the communication of several" in estimate["uncertain"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.yaml"]


def test_estimate_names_what_does_not_fit() -> None:
    full = Estimate(False, "gpu", {"a": 64}, 1, 10, 20, None, None, None, None, 8 * 2**30, ("reason",))
    assert str(full) == (
        "does not fit: a step with batches of a 64 needs more than the 8.0 GiB of this GPU\nuncertain: reason"
    )
    fitting = Estimate(True, "cpu", {"a": 64}, 2, 10, 20, 0.5, 3.0, 130.0, 2**30, 8 * 2**30, ())
    assert str(fitting).splitlines() == [
        "time: about 0:02:10: 10 epochs of 20 batches (a 64), 0.500 s per batch, 3.0 s per validation",
        "memory: fits: 1.0 GiB for each of 2 process(es), 8.0 GiB of this machine",
    ]


def test_plan_of_an_invalid_document_reports_its_problems(
    command: Command, job_yaml: Path, demo_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("plan", "--config", job_yaml, "--data-root", demo_root.parent)
    assert command(*words, "--model.unfreeze", "{0: none, 9: all}") == 78
    assert "epochs" in capsys.readouterr().err
    assert command(*words, "--model.layer_decay", "1.5", "--json") == 78
    assert [problem["field"] for problem in json.loads(capsys.readouterr().out)] == ["model.layer_decay"]


def test_check_tells_doubts_and_keeps_its_output(
    command: Command, job_yaml: Path, demo_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("check", "--config", job_yaml, "--data-root", demo_root.parent, "--json")
    assert command(*words, "--model.transfer", "freeze") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out).keys() == {"config", "data_report", "stages", "trainable", "precision"}
    assert printed.err.count("warning: model.unfreeze") == 1
    assert command(*words) == 0
    assert "warning: model" not in capsys.readouterr().err


def test_run_logs_its_plan(finished: RunDir) -> None:
    lines = (finished.attempt(1) / "log.txt").read_text().splitlines()
    heading = next(k for k, line in enumerate(lines) if line.startswith("group  "))
    assert [line.split("/")[0] for line in lines[heading + 1 : heading + 15 : 2]] == ["c3", "c4", "c5", *BASE]
    assert sum(line.startswith("group  ") for line in lines) == 1


def test_run_reports_warnings_of_its_document_once(
    command: Command, job_yaml: Path, demo_root: Path, tmp_path: Path
) -> None:
    words = ("fit", "--config", job_yaml, "--data.root", demo_root, "--run-dir", tmp_path)
    assert command(*words, "--trainer.max_epochs", "1", "--model.transfer", "freeze") == 0
    printed = [event.data["message"] for event in read_events(tmp_path / "events.jsonl") if event.kind == "warning"]
    assert [text.partition(" start")[0] for text in printed] == ["model.unfreeze: c3, c4, c5 of the backbone"]
