"""The numbers of a parallel-coordinates plot: an axis for each searched field and for the metric."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.spec.sweep import CategoricalValues, SearchSpace, SweepSpec
from service.states import TrialState
from service.store.sweep_records import SweepTrial
from service.sweeps.trial_results import best_trial, meets_constraints


@dataclass(frozen=True)
class CoordinateAxis:
    """One axis; values of choices are their positions in `ticks`."""

    name: str
    log: bool
    ticks: list[str]
    low: float
    high: float


@dataclass(frozen=True)
class CoordinateLine:
    """One complete trial, with a value for each axis."""

    number: int
    values: list[float]
    is_best: bool
    is_feasible: bool


def coordinates(spec: SweepSpec, trials: Sequence[SweepTrial]) -> tuple[list[CoordinateAxis], list[CoordinateLine]]:
    """Return the axes and the lines of the complete trials."""
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE and trial.value is not None]
    best = best_trial(spec, trials)
    lines = [
        CoordinateLine(
            trial.number,
            [*(_position(space, trial.params[name]) for name, space in spec.search.items()), trial.value or 0.0],
            is_best=trial is best,
            is_feasible=meets_constraints(spec, trial),
        )
        for trial in complete
    ]
    metrics = [line.values[-1] for line in lines] or [0.0]
    axes = [_axis(name, space) for name, space in spec.search.items()]
    return [*axes, CoordinateAxis(spec.metric or "", False, [], min(metrics), max(metrics))], lines


def _axis(name: str, space: SearchSpace) -> CoordinateAxis:
    if isinstance(space, CategoricalValues):
        ticks = [_label(choice) for choice in space.choices]
        return CoordinateAxis(name, False, ticks, 0.0, float(len(ticks) - 1))
    return CoordinateAxis(name, space.log, [], float(space.low), float(space.high))


def _position(space: SearchSpace, value: Any) -> float:
    return float(space.position_of(value) if isinstance(space, CategoricalValues) else value)


def _label(choice: Any) -> str:
    return choice if isinstance(choice, str) else json.dumps(choice)
