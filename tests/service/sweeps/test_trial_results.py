"""The numbers of trials and the best trial."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.spec.sweep import SweepSpec
from service.states import TrialState
from service.store.sweep_records import SweepTrial
from service.sweeps.trial_results import TrialUnusable, best_trial, failures_in_a_row, read_numbers

SEARCH = {"lr": {"kind": "float", "low": 1e-4, "high": 1e-1}}
RESULT = {
    "summary": {"test/a/AP": 0.1}, "val": {"summary": {"val/a/AP": 0.5, "val/a/AR": None}},
    "model": {"parameters": 1000}, "timing": {"train_s": 3.5},
}  # fmt: skip


def sweep(**more: Any) -> SweepSpec:
    return SweepSpec.model_validate({"document": {}, "search": SEARCH, "trials": 9, "metric": "val/a/AP", **more})


def trial(number: int, state: TrialState, value: float | None = None, limited: Any = None) -> SweepTrial:
    ended = None if state.is_active else float(number)
    return SweepTrial("s", number, "j", state, {"lr": 1.0}, (), value, limited or {}, None, 0.0, ended)


def result_file(folder: Path, **more: Any) -> Path:
    path = folder / "result.json"
    path.write_text(json.dumps(RESULT | more))
    return path


def test_numbers_are_those_on_val_and_facts_of_the_result(tmp_path: Path) -> None:
    limits = {"model.parameters": {"max": 1}, "timing.train_s": {"max": 1}}
    numbers = read_numbers(sweep(constraints=limits), result_file(tmp_path))
    assert numbers.value == 0.5
    assert numbers.limited == {"model.parameters": 1000.0, "timing.train_s": 3.5}


def test_data_without_a_test_split_has_its_val_numbers_in_the_summary(tmp_path: Path) -> None:
    assert read_numbers(sweep(), result_file(tmp_path, val=None, summary={"val/a/AP": 0.25})).value == 0.25


@pytest.mark.parametrize("name", ["val/a/AR", "val/b/AP"])
def test_undefined_metric_makes_a_trial_unusable(name: str, tmp_path: Path) -> None:
    with pytest.raises(TrialUnusable, match=f"^{name} is undefined"):
        read_numbers(sweep(metric=name), result_file(tmp_path))


def test_missing_or_damaged_result_makes_a_trial_unusable(tmp_path: Path) -> None:
    with pytest.raises(TrialUnusable, match=r"result\.json is missing or damaged"):
        read_numbers(sweep(), tmp_path / "result.json")
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(TrialUnusable, match=r"result\.json is missing or damaged"):
        read_numbers(sweep(), tmp_path / "result.json")


def test_best_trial_is_complete_and_the_first_among_equals() -> None:
    complete = TrialState.COMPLETE
    trials = [trial(0, complete, 0.2), trial(1, complete, 0.4), trial(2, TrialState.PRUNED), trial(3, complete, 0.4)]
    best, least = best_trial(sweep(), trials), best_trial(sweep(direction="minimize"), trials)
    assert best is not None
    assert least is not None
    assert (best.number, least.number) == (1, 0)
    assert best_trial(sweep(), trials[2:3]) is None


def test_best_trial_meets_the_constraints() -> None:
    spec = sweep(constraints={"model.parameters": {"max": 10}})
    trials = [trial(k, TrialState.COMPLETE, value, {"model.parameters": size}) for k, value, size in
              ((0, 0.9, 20.0), (1, 0.5, 10.0))]  # fmt: skip
    best = best_trial(spec, trials)
    assert best is not None
    assert best.number == 1


def test_failures_in_a_row_end_with_a_trial_that_was_good_or_pruned() -> None:
    failed, pruned = TrialState.FAILED, TrialState.PRUNED
    trials = [trial(0, failed), trial(1, pruned), trial(2, failed), trial(3, TrialState.CANCELLED), trial(4, failed)]
    assert [found.number for found in failures_in_a_row([*trials, trial(5, TrialState.RUNNING)])] == [2, 4]
    assert failures_in_a_row([*trials, trial(5, TrialState.COMPLETE, 0.1)]) == []
