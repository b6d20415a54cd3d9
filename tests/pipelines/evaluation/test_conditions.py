"""Scores of slices and under corruptions: numbers, tables, charts and names in MLflow."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from pipelines.base.console import SafeConsole
from pipelines.base.records import ImageRecord
from pipelines.evaluation.condition_charts import condition_charts
from pipelines.evaluation.conditions import condition_metrics, corruption_rows
from pipelines.evaluation.plots import write_condition_plots
from pipelines.evaluation.predictions import ImagePredictions
from pipelines.evaluation.slices import score_slices
from pipelines.evaluation.tables import print_conditions
from pipelines.spec.model import ModelSpec
from pipelines.spec.result import SliceColumn
from pipelines.tasks.kinds import kind_of


@pytest.fixture(scope="module")
def cameras(records: Any) -> dict[str, dict[int, str]]:
    """The first four images are of camera A, the next four of B, and all others of C."""
    return {"camera": {record.image_id: "AABBC"[min(n // 2, 4)] for n, record in enumerate(records)}}


@pytest.fixture(scope="module")
def slices(model: Any, categories: Any, records: Any, predictions: Any, cameras: Any, gallery: Any) -> Any:
    return score_slices(model, categories, records, predictions, cameras, gallery=gallery)


def test_every_kind_of_task_is_scored_in_every_slice(slices: Any, model: Any, cameras: Any) -> None:
    (column,) = slices
    assert SliceColumn.model_validate(column).model_dump(mode="json") == column
    assert [row["value"] for row in column["values"]] == ["A", "B", "C"]
    assert [row["num_images"] for row in column["values"]] == [4, 4, 4]
    for row in column["values"]:
        assert {name: list(task["numbers"]) for name, task in row["tasks"].items()} == {
            name: list(kind_of(spec).metrics) for name, spec in model.tasks.items()
        }


@pytest.mark.parametrize("name", ["cells", "kind", "marks", "scene"])
def test_numbers_of_a_slice_are_those_of_its_images_alone(
    name: str, slices: Any, evaluate: Any, records: Any, predictions: Any, model: Any
) -> None:
    part = [record for record in records if record.image_id < 1004]
    alone = evaluate(name, part, [prediction for prediction in predictions if prediction.image_id < 1004])
    found = slices[0]["values"][0]["tasks"][name]
    numbers = kind_of(model.tasks[name]).numbers(alone)
    assert found["num_images"] == alone["num_images"]
    assert found["numbers"] == {metric: numbers[metric] for metric in found["numbers"]}


def test_worst_slice_has_the_lowest_main_metric(slices: Any) -> None:
    for name, metric in {"cells": "AP", "kind": "macro_f1", "marks": "mAP", "lookup": "recall_at_1"}.items():
        numbers = {row["value"]: row["tasks"][name]["numbers"][metric] for row in slices[0]["values"]}
        worst = min(numbers, key=lambda value: numbers[value])
        assert slices[0]["worst"][name] == {"value": worst, "metric": metric, "number": numbers[worst]}


def test_queries_of_a_slice_search_the_whole_split() -> None:
    from pipelines.base.records import Category
    from pipelines.tasks.embedding.tensors.embeddings import Embeddings

    model = ModelSpec.model_validate(
        {"backbone": {"name": "resnet18"}, "tasks": {"scene": {"head": "embedding", "of": "image", "dim": 2}}}
    )
    places = {1: ("north", [1.0, 0.0]), 2: ("north", [0.9, 0.1]), 3: ("south", [0.95, 0.05]), 4: ("south", [0.0, 1.0])}
    records = [
        ImageRecord(number, "s", "test", f"{number}.jpg", Path("x"), labels={"scene": [place]})
        for number, (place, _) in places.items()
    ]
    predictions = [
        ImagePredictions(number, {"scene": Embeddings(np.array([vector], dtype=np.float32))})
        for number, (_, vector) in places.items()
    ]
    by_camera = {"camera": {1: "A", 2: "B", 3: "B", 4: "A"}}
    categories = {"scene": [Category(1, "north"), Category(2, "south")]}
    (column,) = score_slices(model, categories, records, predictions, by_camera)
    # Alone, A has one image of each place, and no query could find its place. In the whole split, the nearest image of
    # 1 is 3 (south) and that of 4 is 2 (north); both find their place among the nearest five.
    numbers = column["values"][0]["tasks"]["scene"]["numbers"]
    assert (numbers["recall_at_1"], numbers["recall_at_5"]) == (0.0, 1.0)


def test_undefined_slices_are_not_the_worst(model: Any, categories: Any, records: Any, predictions: Any) -> None:
    only = ModelSpec.model_validate({"backbone": {"name": "resnet18"}, "tasks": {"kind": {"head": "multiclass"}}})
    # The first image is not labeled for `kind`.
    values = {record.image_id: "none" if n == 0 else "some" for n, record in enumerate(records)}
    (column,) = score_slices(only, categories, records, predictions, {"camera": values})
    assert column["values"][0]["tasks"]["kind"]["num_images"] == 0
    assert column["worst"]["kind"]["value"] == "some"
    (column,) = score_slices(only, categories, records[:1], predictions[:1], {"camera": {1000: "none"}})
    assert column["worst"] == {"kind": None}


@pytest.fixture(scope="module")
def result(slices: Any) -> dict[str, Any]:
    keys = {"cells": "AP", "kind": "macro_f1", "marks": "mAP", "lookup": "recall_at_1", "scene": "recall_at_1"}
    clean = {f"test/{name}/{metric}": 0.8 for name, metric in keys.items()}
    corruptions = [
        {"corruption": kind, "strength": strength, "summary": dict.fromkeys(clean, 0.8 - 0.1 * strength)}
        for kind in ("blur", "noise")
        for strength in (1, 2, 3)
    ]
    return {"split": "test", "summary": clean, "corruptions": corruptions, "slices": slices}


def test_corruptions_are_beside_the_clean_number(result: Any) -> None:
    rows = corruption_rows("cells", "AP", result)
    assert rows == {name: pytest.approx([0.8, 0.7, 0.6, 0.5]) for name in ("blur", "noise")}


def test_tables_name_the_worst_slice(model: Any, result: Any) -> None:
    text = io.StringIO()
    print_conditions(model, result, Console(file=text, width=80))
    assert "cells on corrupted images of test: AP" in text.getvalue()
    rows = [line.split() for line in text.getvalue().splitlines()]
    assert ["blur", "0.800", "0.700", "0.600", "0.500"] in rows
    worst = result["slices"][0]["worst"]["cells"]
    assert f"worst: {worst['value']}, AP {worst['number']:.3f}" in text.getvalue()


def test_metrics_have_the_names_of_split_task_and_condition(model: Any, result: Any) -> None:
    metrics = condition_metrics(model, result)
    assert metrics["test/cells/corruptions/blur/3/AP"] == pytest.approx(0.5)
    of_camera = result["slices"][0]["values"][1]["tasks"]["cells"]["numbers"]["AP"]
    assert metrics["test/cells/slices/camera/B/AP"] == of_camera


def test_charts_have_a_panel_of_each_column_and_a_line_of_each_corruption(
    model: Any, result: Any, tmp_path: Path
) -> None:
    charts = condition_charts(model, result)
    assert {name for name in charts if name.startswith("cells")} == {"cells.corruptions", "cells.slices"}
    (axis,) = charts["cells.corruptions"].axes
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["blur", "noise"]
    (axis,) = charts["cells.slices"].axes
    assert len(axis.get_yticklabels()) == 3
    assert len(write_condition_plots(tmp_path, model, result)) == len(charts) == 10
    assert condition_charts(model, {**result, "corruptions": [], "slices": []}) == {}


def test_any_value_is_shown_and_leaves_space_for_its_bar(model: Any, slices: Any, result: Any, tmp_path: Path) -> None:
    (column,) = slices
    values = ["\x00\ud800\n[/bold] $x^{$", "[red]", "x" * 10_000]
    rows = [{**row, "value": value} for row, value in zip(column["values"], values, strict=True)]
    worst = {name: {"value": values[0], "metric": "AP", "number": 0.5} for name in column["worst"]}
    changed = {**result, "slices": [{"column": "[/x]" + "$" * 5000, "values": rows, "worst": worst}]}
    chart = condition_charts(model, changed)["cells.slices"]
    chart.savefig(tmp_path / "chart.png")
    assert chart.axes[0].get_window_extent().width > 0.2 * chart.bbox.width
    text = io.StringIO()
    print_conditions(model, changed, SafeConsole(file=text, width=80))
    assert "\x00" not in text.getvalue()
    assert "[red]" in text.getvalue()
    assert len(text.getvalue()) < 20_000
    text.getvalue().encode()
