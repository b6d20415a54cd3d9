"""The contract of task kinds, tested for every head of every registered kind."""

import io
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from heads.base import Target
from pipelines.base.records import ImageRecord
from pipelines.evaluation.evaluate import Gallery, evaluate_task
from pipelines.evaluation.metric_names import summarize, summary_keys
from pipelines.evaluation.plots import write_plots
from pipelines.evaluation.tables import print_results
from pipelines.evaluation.writers import write_ground_truth, write_predictions
from pipelines.spec.result import SplitResult
from pipelines.tasks.base import TaskAnswer, TaskResult
from pipelines.tasks.kinds import KINDS, TASK_SPECS, kind_of
from pipelines.tasks.thresholds import rows_above
from service.api.routes.predictions import FORMATS
from service.rest.model_schemas import TaskPrediction
from tests.pipelines.tasks.conftest import CATEGORIES, INPUT_HW, HalvedImage, TaskCase, random_features


class FoundBoxes:
    """Boxes that another task found."""

    boxes_xyxy = np.array([[10.0, 12.0, 80.0, 100.0], [60.0, 16.0, 160.0, 120.0]], dtype=np.float32)
    scores = np.array([0.75, 0.5], dtype=np.float32)


def answer_of(case: TaskCase) -> dict[str, Any]:
    """Return the answer for the first image, as the predictor makes it."""
    output = case.runtime.from_network(case.network_prediction(1), HalvedImage())
    if case.kind.takes_boxes(case.spec):
        output = case.runtime.with_boxes(output, FoundBoxes())
    return case.runtime.answer(case.setup, output)


def result_of(case: TaskCase) -> dict[str, Any]:
    gallery = Gallery(case.records, case.predictions)
    return evaluate_task("task", case.spec, CATEGORIES, case.records, case.predictions, gallery)


def test_every_head_belongs_to_the_kind_that_it_names() -> None:
    assert {name: kind.name for name, kind in KINDS.items()} == {name: name for name in KINDS}
    assert {kind_of(spec(head=head)).name for head, spec in TASK_SPECS.items()} == set(KINDS)
    assert all(kind_of(spec(head=head)).name == spec.kind for head, spec in TASK_SPECS.items())


@pytest.mark.parametrize("name", KINDS)
def test_kind_describes_results_files_and_columns_that_fit_each_other(name: str) -> None:
    kind = KINDS[name]
    assert issubclass(kind.result, TaskResult)
    assert issubclass(kind.answer, TaskAnswer)
    assert set(kind.plotted_metrics) <= set(kind.metrics)
    assert set(kind.plotted_class_columns) <= set(kind.class_columns[2:])
    assert FORMATS[kind.predictions.suffix] == kind.predictions.media_type
    assert kind.answer_rows is None or kind.answer_rows in kind.answer.model_fields


def test_labels_become_a_target_that_the_head_learns_from(task_case: TaskCase) -> None:
    target = task_case.runtime.encode(task_case.setup, task_case.records[0])
    assert isinstance(target, Target)
    task_case.head.train()
    features = {name: level.repeat(2, 1, 1, 1) for name, level in random_features(0).items()}
    terms = task_case.head.loss(task_case.head(features), [target, target], [INPUT_HW, INPUT_HW])
    assert tuple(terms) == task_case.head.loss_terms
    assert all(torch.isfinite(total) for total, _ in terms.values())


def test_target_has_an_entry_for_each_labeled_object(task_case: TaskCase) -> None:
    target = task_case.runtime.encode(task_case.setup, task_case.records[0])
    has_objects = "boxes" in task_case.kind.needed_labels(task_case.spec)
    boxes_xyxy = target.object_boxes_xyxy
    assert (boxes_xyxy is not None) == has_objects
    if boxes_xyxy is None:
        return
    labels = task_case.records[0].labels["task"]
    expected = [(x, y, x + width, y + height) for x, y, width, height in (label.bbox_xywh for label in labels)]
    assert boxes_xyxy.tolist() == [list(box) for box in expected]
    assert target.with_objects(torch.tensor([False, True])).object_boxes_xyxy.tolist() == [list(expected[1])]
    moved = target.with_object_boxes(boxes_xyxy + 1)
    assert moved.object_boxes_xyxy.tolist() == (boxes_xyxy + 1).tolist()


def test_output_is_of_the_type_of_the_kind_finite_and_survives_pickling(task_case: TaskCase) -> None:
    for output in task_case.outputs.values():
        assert type(output) is task_case.runtime.output
        assert output.is_finite()
        copy = pickle.loads(pickle.dumps(output))
        for name, array in vars(output).items():
            np.testing.assert_array_equal(getattr(copy, name), array)


def test_boxes_that_other_tasks_may_take_are_inside_the_original_image(task_case: TaskCase) -> None:
    if not task_case.kind.gives_boxes:
        assert task_case.network_prediction(1).object_boxes_xyxy is None
        return
    prediction = task_case.network_prediction(1)
    output = task_case.runtime.from_network(prediction, HalvedImage())
    height, width = HalvedImage().original_hw
    np.testing.assert_array_equal(output.boxes_xyxy, 2 * prediction.object_boxes_xyxy.numpy())
    assert (output.boxes_xyxy >= 0).all()
    assert (output.boxes_xyxy <= [width, height, width, height]).all()


def test_answer_is_json_that_fits_its_schema_and_the_published_one(task_case: TaskCase) -> None:
    answer = answer_of(task_case)
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    for schema in (task_case.kind.answer, TaskPrediction):
        assert schema.model_validate(answer, strict=True).model_dump(mode="json", exclude_unset=True) == answer


def test_threshold_selects_rows_that_have_a_label_and_a_score(task_case: TaskCase) -> None:
    kind, answer = task_case.kind, answer_of(task_case)
    assert kind.has_thresholds(task_case.spec) or not kind.gives_boxes
    if not kind.has_thresholds(task_case.spec):
        return
    rows = answer[kind.answer_rows]
    middle = sorted(row["score"] for row in rows)[len(rows) // 2]
    limits = {category.name: middle for category in CATEGORIES} | {"B": 1.0}
    is_kept = rows_above(task_case.spec, answer, limits)
    selected = kind.with_rows(answer, is_kept)
    assert selected[kind.answer_rows] == [row for row in rows if row["label"] != "B" and row["score"] > middle]
    assert kind.answer.model_validate(selected).model_dump(mode="json", exclude_unset=True) == selected
    assert all("best_threshold" in row for row in result_of(task_case)["per_class"])


def test_other_thresholds_than_the_best_are_scored_as_they_are(task_case: TaskCase) -> None:
    if not task_case.kind.has_thresholds(task_case.spec):
        return
    best = {category.name: 0.125 for category in CATEGORIES[:2]}
    arguments = (task_case.records, task_case.predictions, None, best)
    rows = evaluate_task("task", task_case.spec, CATEGORIES, *arguments)["per_class"]
    assert [row["best_threshold"] for row in rows] == [0.125, 0.125, None]


def test_result_fits_its_schema_and_has_all_metrics(task_case: TaskCase) -> None:
    result = result_of(task_case)
    assert result["num_images"] == len(task_case.records)
    read = task_case.kind.result.model_validate(result).model_dump(mode="json")
    assert json.loads(json.dumps(result, allow_nan=False)) == read
    summary = summarize("test", {"task": result})
    assert list(summary) == summary_keys("test", "task", task_case.spec)
    assert f"test/task/{task_case.kind.main_metric(task_case.spec)}" in summary
    assert (
        SplitResult.model_validate({"summary": summary, "tasks": {"task": result}}).tasks["task"].kind == result["kind"]
    )


def test_no_labeled_image_leaves_every_number_undefined(task_case: TaskCase) -> None:
    bare = [ImageRecord(r.image_id, r.source, r.split, r.file_name, r.path) for r in task_case.records]
    result = evaluate_task("task", task_case.spec, CATEGORIES, bare, task_case.predictions, Gallery([], []))
    assert set(summarize("test", {"task": result}).values()) == {None}
    task_case.kind.result.model_validate(result)


def test_files_are_written_in_the_format_of_the_kind(task_case: TaskCase, tmp_path: Path) -> None:
    arguments = ("task", task_case.spec, CATEGORIES, task_case.records)
    written = write_predictions(tmp_path / "predictions", *arguments, task_case.predictions)
    assert written.name == f"task{task_case.kind.predictions.suffix}"
    assert written.stat().st_size > 2
    truth = write_ground_truth(tmp_path / "ground_truth", *arguments)
    if task_case.kind.ground_truth is None:
        assert truth is None
    else:
        assert truth.name == f"task{task_case.kind.ground_truth.suffix}"
        assert truth.stat().st_size > 2


def test_predictions_of_unlabeled_images_can_be_written(task_case: TaskCase, tmp_path: Path) -> None:
    bare = [ImageRecord(r.image_id, r.source, r.split, r.file_name, r.path) for r in task_case.records]
    arguments = ("task", task_case.spec, CATEGORIES, bare, task_case.predictions)
    nothing = write_predictions(tmp_path / "labeled", *arguments).stat().st_size
    assert write_predictions(tmp_path / "all", *arguments, labeled_only=False).stat().st_size > nothing


def test_tables_show_every_metric_and_class(task_case: TaskCase) -> None:
    text = io.StringIO()
    print_results("test", {"task": result_of(task_case)}, Console(file=text, width=80))
    words = text.getvalue().split()
    assert set(task_case.kind.metrics) <= set(words)
    assert set(task_case.kind.class_columns) <= set(words)
    assert {"A", "B"} <= set(words)


def test_charts_show_the_classes(task_case: TaskCase, tmp_path: Path) -> None:
    paths = write_plots(tmp_path, tmp_path / "events.jsonl", {"task": result_of(task_case)})
    assert tmp_path / "task.classes.png" in paths
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_answer_and_target_can_be_drawn(task_case: TaskCase) -> None:
    drawings = [
        task_case.kind.draw("task", answer_of(task_case)),
        task_case.runtime.draw_target(task_case.setup, task_case.runtime.encode(task_case.setup, task_case.records[0])),
    ]
    for drawing in drawings:
        assert len(drawing.labels) == len(drawing.boxes_xyxy or [])
        assert drawing.scores is None or len(drawing.scores) == len(drawing.labels)
    assert (drawings[0].boxes_xyxy is not None) == task_case.kind.gives_boxes


@pytest.mark.parametrize("name", KINDS)
def test_only_the_runtime_of_a_kind_imports_torch(name: str) -> None:
    heavy = "{'torch', 'numpy', 'matplotlib', 'sklearn', 'torchmetrics'} & sys.modules.keys()"
    code = f"import sys, pipelines.tasks.{name}.kind, pipelines.tasks.kinds; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")
