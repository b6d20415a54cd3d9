"""Documents of sweeps: their checks, the documents of trials, and the corners of search spaces."""

from typing import Any

import pytest

from pipelines.base.errors import ConfigError
from pipelines.spec.sweep import NumberLimit, SweepSpec, validate_sweep
from pipelines.spec.sweep_documents import MAX_CORNERS, corners, locate, trial_document, trial_name

RATE = {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True}


def sweep(search: dict[str, Any], **more: Any) -> SweepSpec:
    document = {"name": "base", "model": {"optimizer": {"lr": 1.0}, "tasks": {"a": {}}}, "steps": [1, 2]}
    return validate_sweep({"document": document, "trials": 4, "search": search, **more})


@pytest.mark.parametrize(
    ("search", "problem"),
    [
        ({"lr": {"kind": "floot"}}, "search.lr.kind: got 'floot'; did you mean 'float'"),
        ({"lr": {"kind": "float", "low": 1.0, "high": 1.0}}, "search.lr.high: got 1.0, which is not above low"),
        ({"lr": {**RATE, "low": 0.0}}, "search.lr.low: got 0.0, which has no logarithm"),
        ({"n": {"kind": "int", "low": 16, "high": 60, "step": 16}}, "search.n.high: got 60.*write 48"),
        ({"n": {"kind": "int", "low": 1, "high": 9, "step": 2, "log": True}}, "search.n.step: got 2 beside log"),
        ({"n": {"kind": "categorical", "choices": []}}, "search.n.choices: .*at least 1"),
        ({"n": {"kind": "categorical", "choices": [1, True, {"a": 1, "b": 2}, {"b": 2, "a": 1}]}},
         r'search.n.choices: got {"a": 1, "b": 2} more than once'),
        ({"lr": {"kind": "float", "low": -1.7e308, "high": 1.7e308}}, "search.lr.high: .* is too far above low"),
        ({}, "search: .*at least 1"),
        ({"a.b": RATE, "a.b.c": RATE}, "search.a.b.c: is a part of a.b, which is searched too"),
        ({"a..b": RATE}, "search.a..b: is not a dotted name"),
        ({"data": RATE}, r"search.data: is shared by all trials \(data.root\)"),
        ({"tracking.experiment": RATE}, r"search.tracking.experiment: is shared by all trials \(tracking\)"),
    ],
)  # fmt: skip
def test_invalid_search_space_is_reported_at_its_field(search: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=f"^{problem}"):
        sweep(search)


def test_limit_has_exactly_one_side() -> None:
    with pytest.raises(ConfigError, match=r"constraints.model.parameters: write either max or min"):
        sweep({"lr": RATE}, constraints={"model.parameters": {}})


def test_excess_is_positive_beyond_a_limit() -> None:
    assert (NumberLimit(max=3).excess(5), NumberLimit(max=3).excess(3), NumberLimit(min=3).excess(5)) == (2, 0, -2)


def test_document_of_a_trial_has_its_values_and_keeps_the_rest() -> None:
    spec = sweep({"model.optimizer.lr": RATE, "steps.1": RATE, "model.ema": {"kind": "categorical", "choices": [None]}})
    document = trial_document(spec, {"model.optimizer.lr": 0.1, "steps.1": 5, "model.ema": {"decay": 0.9}}, "t-0")
    assert document == {
        "name": "t-0",
        "model": {"optimizer": {"lr": 0.1}, "tasks": {"a": {}}, "ema": {"decay": 0.9}},
        "steps": [1, 5],
    }
    assert spec.document["name"] == "base"


def test_position_that_a_list_does_not_have_is_reported_at_its_field() -> None:
    with pytest.raises(ConfigError, match=r"^search.steps.7: got '7'; the list has the positions 0 to 1"):
        trial_document(sweep({"steps.7": RATE}), {"steps.7": 1})


def test_name_of_a_trial_is_a_valid_name_of_a_job() -> None:
    assert trial_name("s" * 64, 999) == f"{'s' * 58}-999"


def test_corners_are_all_combinations_of_few_extremes() -> None:
    spec = sweep({"lr": RATE, "n": {"kind": "categorical", "choices": ["x", {"y": 1}, None]}})
    assert [tuple(corner.values()) for corner in corners(spec)] == [
        (low, n) for low in (1e-4, 1e-2) for n in ("x", {"y": 1}, None)
    ]


def test_corners_of_many_fields_are_few_and_have_every_extreme() -> None:
    search = {f"f{k}": {"kind": "categorical", "choices": list(range(k + 2))} for k in range(20)}
    found = corners(sweep(search))
    assert len(found) == MAX_CORNERS
    assert found == corners(sweep(search))
    for name, space in search.items():
        assert {corner[name] for corner in found} == set(space["choices"])


@pytest.mark.parametrize(
    ("path", "located"),
    [
        (("model", "optimizer", "lr"), ("search", "model.optimizer.lr")),
        (("model", "optimizer"), ("search", "model.optimizer.lr")),
        (("model", "tasks", "new", "head"), ("search", "model.tasks.new.weight")),
        (("model", "tasks", "a", "head"), ("document", "model", "tasks", "a", "head")),
        (("data",), ("document", "data")),
    ],
)
def test_problem_of_a_trials_document_is_located_at_the_searched_field(
    path: tuple[str, ...], located: tuple[str, ...]
) -> None:
    values = {"model.optimizer.lr": 0.1, "model.tasks.new.weight": 1}
    assert locate(sweep(dict.fromkeys(values, RATE)), values, path) == located
