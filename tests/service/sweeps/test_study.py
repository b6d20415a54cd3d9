"""Suggestions and pruning depend on nothing but the document and the stored trials."""

from collections.abc import Sequence
from typing import Any

import pytest

from pipelines.spec.sweep import SweepSpec, validate_sweep
from service.states import TrialState
from service.store.sweep_records import Report, SweepTrial
from service.sweeps.study import suggest, to_prune

SEARCH = {
    "lr": {"kind": "float", "low": 1e-4, "high": 1e-1, "log": True},
    "width": {"kind": "int", "low": 16, "high": 64, "step": 16},
    "backbone": {"kind": "categorical", "choices": [{"name": "a"}, {"name": "b"}, None, True, 1]},
}


def sweep(**more: Any) -> SweepSpec:
    return validate_sweep({"document": {}, "search": SEARCH, "trials": 40, "direction": "maximize", **more})


def trial(
    number: int, state: TrialState = TrialState.COMPLETE, params: Any = None, *, value: float | None = None,
    reports: Sequence[Report] = (), limited: dict[str, float] | None = None,
) -> SweepTrial:  # fmt: skip
    fixed = params or {"lr": 1e-3, "width": 32, "backbone": {"name": "a"}}
    is_complete = state is TrialState.COMPLETE
    value = 0.5 if is_complete and value is None else value
    return SweepTrial("s", number, f"j{number}", state, fixed, tuple(reports), value, limited or {}, None, 1.0, 2.0)


def in_order(spec: SweepSpec, number: int) -> list[SweepTrial]:
    """Return trials that were suggested one after another, whose value is best near a rate of 0.01."""
    trials: list[SweepTrial] = []
    for k in range(number):
        params = suggest(spec, trials)
        trials.append(trial(k, params=params, value=-abs(params["lr"] - 0.01)))
    return trials


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_suggestion_is_the_same_for_the_same_stored_trials(sampler: str) -> None:
    spec = sweep(sampler=sampler)
    assert [found.params for found in in_order(spec, 12)] == [found.params for found in in_order(spec, 12)]


def test_suggestions_are_in_the_space_and_differ_by_trial_and_seed() -> None:
    found = [one.params for one in in_order(sweep(sampler="random"), 12)]
    assert all(1e-4 <= params["lr"] <= 1e-1 and params["width"] in (16, 32, 48, 64) for params in found)
    assert all(params["backbone"] in SEARCH["backbone"]["choices"] for params in found)
    assert len({params["lr"] for params in found}) == 12
    assert suggest(sweep(seed=1), []) != suggest(sweep(seed=2), [])


def test_tpe_comes_closer_to_the_optimum_than_its_random_start() -> None:
    trials = in_order(sweep(), 30)
    start, later = trials[:10], trials[20:]
    assert sum(one.value or 0 for one in later) > sum(one.value or 0 for one in start)


def test_trials_in_every_state_are_accepted() -> None:
    spec = sweep(constraints={"model.parameters": {"max": 10}})
    trials = [
        trial(0, limited={"model.parameters": 20.0}),
        trial(1, TrialState.RUNNING, params={"lr": 1e-2, "width": 64, "backbone": True}),
        trial(2, TrialState.PRUNED, params={"lr": 1e-2, "width": 64, "backbone": 1}, reports=[Report(0, 0.1, 5)]),
        trial(3, TrialState.PRUNING), trial(4, TrialState.FAILED), trial(5, TrialState.CANCELLED),
        *(trial(k, limited={"model.parameters": 5.0}) for k in range(6, 16)),
    ]  # fmt: skip
    assert set(suggest(spec, trials)) == set(SEARCH)


PRUNER = {"kind": "successive_halving", "min_epochs": 1, "reduction_factor": 2}


def course(*values: tuple[int, int, int, float]) -> list[list[Report]]:
    """Return the reports of three trials from rows of (seq, trial, epoch, value)."""
    return [[Report(epoch, value, seq) for seq, number, epoch, value in values if number == k] for k in range(3)]


def test_trial_that_is_worse_after_the_same_epochs_is_pruned() -> None:
    reports = course((1, 0, 0, 0.5), (2, 1, 0, 0.4), (3, 2, 0, 0.6))
    running = [trial(k, TrialState.RUNNING, reports=reports[k]) for k in range(3)]
    assert [found.number for found in to_prune(sweep(pruner=PRUNER), running)] == [1]
    assert [found.number for found in to_prune(sweep(pruner=PRUNER, direction="minimize"), running)] == [2]
    assert to_prune(sweep(), running) == []


def test_pruning_decision_stays_the_same_after_later_reports() -> None:
    spec = sweep(pruner=PRUNER)
    reports = course((1, 0, 0, 0.5), (2, 1, 0, 0.4), (4, 0, 1, 0.1), (5, 0, 1, 0.9), (6, 1, 0, 0.9))
    trials = [trial(0, TrialState.RUNNING, reports=reports[0]), trial(1, TrialState.PRUNED, reports=reports[1])]
    assert to_prune(spec, trials) == []
    # A supervisor that was killed before it recorded the decision makes it again.
    trials[1] = trial(1, TrialState.RUNNING, reports=reports[1])
    assert [found.number for found in to_prune(spec, trials)] == [1]


def test_trial_is_not_pruned_before_its_first_epochs() -> None:
    spec = sweep(pruner={**PRUNER, "min_epochs": 3})
    reports = course((1, 0, 0, 0.5), (2, 1, 0, 0.4), (3, 0, 2, 0.5), (4, 1, 1, 0.4))
    trials = [trial(k, TrialState.RUNNING, reports=reports[k]) for k in range(2)]
    assert to_prune(spec, trials) == []
