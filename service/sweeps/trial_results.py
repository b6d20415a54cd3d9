"""The numbers of a trial, read from its result.json, and the best trial of a sweep. Torch-free."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.spec.sweep import SweepSpec
from service.states import TrialState
from service.store.sweep_records import SweepTrial


class TrialUnusable(Exception):
    """A trial has succeeded, but its result lacks a number that the sweep needs."""


@dataclass(frozen=True)
class TrialNumbers:
    """The metric of a trial, and the numbers that constraints limit, by name."""

    value: float
    limited: dict[str, float]


def read_numbers(spec: SweepSpec, result_path: Path) -> TrialNumbers:
    """Return the numbers of a trial.

    Raises:
        TrialUnusable: the result is damaged, or a number is missing or undefined.
        OSError: the file cannot be read at the moment.
    """
    try:
        result = json.loads(result_path.read_bytes())
    except (FileNotFoundError, ValueError) as error:
        raise TrialUnusable(f"its result.json is missing or damaged: {error}") from error
    return TrialNumbers(_number(result, spec.metric or ""), {name: _number(result, name) for name in spec.constraints})


def best_trial(spec: SweepSpec, trials: Sequence[SweepTrial]) -> SweepTrial | None:
    """Return the complete trial with the best metric of those that meet all constraints; the first among equals."""
    sign = -1 if spec.direction == "minimize" else 1
    able = [trial for trial in trials if trial.state is TrialState.COMPLETE and meets_constraints(spec, trial)]
    return max(able, key=lambda trial: (sign * (trial.value or 0.0), -trial.number), default=None)


def meets_constraints(spec: SweepSpec, trial: SweepTrial) -> bool:
    """Return True if the numbers of a complete trial are within all limits."""
    return all(limit.excess(trial.limited[name]) <= 0 for name, limit in spec.constraints.items())


def _number(result: Mapping[str, Any], name: str) -> float:
    if "/" in name:
        val = result.get("val") or {}
        found = {**result.get("summary", {}), **val.get("summary", {})}.get(name)
    else:
        section, _, key = name.partition(".")
        found = result.get(section, {}).get(key)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise TrialUnusable(f"{name} is undefined in its result")
    return float(found)


def failures_in_a_row(trials: Sequence[SweepTrial]) -> list[SweepTrial]:
    """Return the trials that have failed since one completed or was pruned, in the order of their ends."""
    counted = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED)]
    failed: list[SweepTrial] = []
    for trial in sorted(counted, key=lambda trial: (trial.ended_at or 0.0, trial.number)):
        failed = [*failed, trial] if trial.state is TrialState.FAILED else []
    return failed
