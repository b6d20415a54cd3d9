"""Thresholds that users request, and what they select."""

import pytest

from pipelines.base.errors import ConfigError
from pipelines.base.records import Category
from pipelines.tasks.kinds import TASK_SPECS
from pipelines.tasks.thresholds import (
    ThresholdUnusable,
    best_thresholds,
    class_thresholds,
    requested_thresholds,
    threshold_option,
)

TASKS = {
    name: TASK_SPECS[head](head=head) for name, head in {"a": "fcos", "b": "multilabel", "c": "multiclass"}.items()
}
CATEGORIES = {name: [Category(1, "x"), Category(2, "y")] for name in TASKS}


def test_request_is_best_or_a_number() -> None:
    assert [threshold_option(text) for text in (None, "best", "0", "0.25", "1")] == [None, "best", 0.0, 0.25, 1.0]


@pytest.mark.parametrize("text", ["", "Best", "half", "-0.1", "1.01", "nan", "inf", "40%"])
def test_other_texts_are_rejected(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        threshold_option(text)
    assert str(caught.value) == f"--threshold: got {text!r}; write best, or a number from 0 to 1, such as 0.4"


def test_number_applies_to_every_class_of_the_tasks_that_have_thresholds() -> None:
    both = {"x": 0.25, "y": 0.25}
    assert requested_thresholds(0.25, TASKS, CATEGORIES, {}) == {"a": both, "b": both}


def test_class_without_a_best_threshold_has_the_median_of_the_others() -> None:
    assert class_thresholds({"x": 0.2, "y": None, "z": 0.8, "w": 0.3}) == {"x": 0.2, "y": 0.3, "z": 0.8, "w": 0.3}
    assert class_thresholds({"x": None, "y": None}) == {"x": 0.5, "y": 0.5}
    best = {"a": {"x": 0.1, "y": None}, "b": {"x": None, "y": None}}
    assert requested_thresholds("best", TASKS, CATEGORIES, best) == {
        "a": {"x": 0.1, "y": 0.1}, "b": {"x": 0.5, "y": 0.5},
    }  # fmt: skip


def test_best_thresholds_of_an_earlier_version_are_missing() -> None:
    with pytest.raises(ThresholdUnusable, match=r"no best thresholds of b: it was trained by an earlier version"):
        requested_thresholds("best", TASKS, CATEGORIES, {"a": {"x": 0.1, "y": 0.2}})


@pytest.mark.parametrize("threshold", ["best", 0.4])
def test_model_without_scores_to_select_by_is_reported(threshold: float) -> None:
    with pytest.raises(ThresholdUnusable, match=rf"got {threshold}, but no task of the model \(c\) has scores"):
        requested_thresholds(threshold, {"c": TASKS["c"]}, CATEGORIES, {})


def test_best_thresholds_are_read_from_the_results_of_tasks_that_have_them() -> None:
    row = {"label": "x", "best_threshold": None}
    results = {name: {"per_class": [row]} for name in TASKS}
    assert best_thresholds(TASKS, results) == {"a": {"x": None}, "b": {"x": None}}
    assert best_thresholds(TASKS, results | {"a": {"per_class": [{"label": "x"}]}}) == {"b": {"x": None}}
    assert best_thresholds(TASKS, {}) == {}
