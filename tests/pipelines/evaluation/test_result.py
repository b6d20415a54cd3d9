"""result.json and the tables on the console."""

import io
import subprocess
import sys

import pytest
from pydantic import ValidationError
from rich.console import Console

from pipelines.evaluation.metric_names import selection, summary_keys
from pipelines.evaluation.result import build_result, write_result
from pipelines.evaluation.tables import print_results
from pipelines.spec.result import DataResult, RunResult
from pipelines.tasks.kinds import KINDS


@pytest.fixture
def result_of(model):
    def build(tasks, **changes):
        data = DataResult(num_skipped=0, skipped=[])
        arguments = {"data": data, "split": "test", "tasks": tasks, "val_tasks": tasks, "select": selection(model)}
        facts = {"model": {"num_parameters": 5}, "timing": {"train_s": 1.5}, "versions": {"torch": "2.11"}}
        return build_result(**(arguments | facts | changes))

    return build


def test_result_fits_its_schema_and_is_read_back_from_its_file(tasks, tmp_path, model, result_of):
    result = result_of(tasks)
    write_result(tmp_path / "result.json", result)
    text = (tmp_path / "result.json").read_text()
    assert RunResult.model_validate_json(text).model_dump(mode="json") == result
    assert "NaN" not in text
    assert list(result["tasks"]["cells"]["coco"]) == list(KINDS["detection"].metrics)
    assert result["select"] == {
        "metric": "val/cells/AP",
        "mode": "max",
        "value": result["val"]["summary"]["val/cells/AP"],
    }
    assert result["summary"]["test/cells/AP"] == tasks["cells"]["coco"]["AP"] == result["select"]["value"]
    assert set(result["summary"]) == {
        key for name, task in model.tasks.items() for key in summary_keys("test", name, task)
    }


def test_result_of_an_earlier_version_has_no_data_about_skipped_images(tasks, result_of):
    old = result_of(tasks)
    assert old.pop("data") == {"num_skipped": 0, "skipped": []}
    assert RunResult.model_validate(old).data is None


def test_result_without_val_has_no_selected_value(tasks, result_of):
    result = result_of(tasks, val_tasks=None)
    assert result["val"] is None
    assert result["select"]["value"] is None


def test_result_with_nan_or_minus_one_is_rejected(tasks, result_of):
    for value in (float("nan"), -1.0):
        with pytest.raises(ValidationError):
            result_of({"kind": tasks["kind"] | {"accuracy": value}})


def test_tables_show_every_task_and_a_dash_for_undefined_numbers(tasks, model):
    text = io.StringIO()
    print_results("test", tasks, Console(file=text, width=140))
    shown = text.getvalue()
    for name in (*model.tasks, "AP50", "macro_f1", "map_at_r", "never", "outdoor"):
        assert name in shown
    assert f" {tasks['cells']['coco']['AP']:.3f} " in shown
    never = next(line for line in shown.splitlines() if "never" in line)
    assert never.split() == ["never", "0", "-", "-", "-", "-"]
    red = next(row for row in tasks["cells"]["per_class"] if row["label"] == "red")
    words = next(line for line in shown.splitlines() if line.split()[:1] == ["red"]).split()
    assert words[-2:] == [f"{red['f1_at_best']:.3f}", f"{red['best_threshold']:.3f}"]


@pytest.mark.parametrize("columns", [20, 80])
def test_cocos_twelve_numbers_fit_80_columns_and_are_complete_in_narrower_terminals(tasks, columns):
    text = io.StringIO()
    print_results("test", {"cells": tasks["cells"]}, Console(file=text, width=columns))
    shown = text.getvalue()
    assert max(map(len, shown.splitlines())) <= 80
    assert all(name in shown.split() for name in KINDS["detection"].metrics)
    assert "\u2026" not in shown


def test_numbers_of_embeddings_fit_a_terminal_of_80_columns(tasks):
    text = io.StringIO()
    print_results("test", {"lookup": tasks["lookup"]}, Console(file=text, width=80))
    assert all(name in text.getvalue().split() for name in KINDS["embedding"].metrics)


def test_results_without_the_newer_metrics_are_read_and_shown(tasks, result_of):
    old = result_of({"lookup": tasks["lookup"], "cells": tasks["cells"], "marks": tasks["marks"]})
    at_best = [name for name in tasks["cells"]["per_class"][0] if name.endswith(("at_best", "best_threshold"))]
    for part in (old, old["val"]):
        for row in (*part["tasks"]["cells"]["per_class"], *part["tasks"]["marks"]["per_class"]):
            for name in at_best:
                del row[name]
        for name in ("recall_at_5", "recall_at_10", "r_precision", "nmi"):
            del part["tasks"]["lookup"][name]
    read = RunResult.model_validate(old)
    assert read.tasks["lookup"].nmi is None
    assert read.tasks["marks"].per_class[0].best_threshold is None
    assert read.tasks["lookup"].recall_at_1 == tasks["lookup"]["recall_at_1"]
    text = io.StringIO()
    print_results("test", old["tasks"], Console(file=text, width=80))
    assert "-" in text.getvalue()


def test_modules_for_scores_and_results_do_not_import_torch():
    names = ("metric_names", "predictions", "evaluate", "writers", "result", "tables", "plots")
    scores = ("detection.scoring.coco_scores", "embedding.retrieval")
    modules = [f"pipelines.evaluation.{name}" for name in names] + [f"pipelines.tasks.{name}" for name in scores]
    imports = "; ".join(f"import {module}" for module in modules)
    check = "import sys; print({'torch', 'lightning', 'timm', 'matplotlib', 'rich'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", f"{imports}; {check}"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")
