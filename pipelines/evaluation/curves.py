"""Numbers of a run over its steps, read from its events."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from pipelines.run_folder.events import TrainerEvent

Points = list[tuple[int, float]]
Curves = dict[str, Points]
"""By name: (step, value), with ascending steps."""

CURVE_KINDS = ("progress", "metric")


def read_curves(events: Iterable[TrainerEvent]) -> Curves:
    """Return all numbers of progress and metric events by name, in the order of their steps.

    After a resume, steps are repeated. The later line in the file wins: it replaces the points of its own step and of
    all later steps.
    """
    points: dict[str, list[tuple[int, int, float]]] = defaultdict(list)
    for event in events:
        if event.kind not in CURVE_KINDS:
            continue
        at = (event.epoch, event.step)
        for name, value in _numbers(event.data):
            course = points[name]
            while course and course[-1][:2] >= at:
                course.pop()
            course.append((*at, value))
    return {name: [(step, value) for _, step, value in course] for name, course in points.items()}


def epoch_ends(events: Iterable[TrainerEvent]) -> dict[int, int]:
    """Return the last reported step of each epoch, counted from 1. The later line in the file wins."""
    ends: dict[int, int] = {}
    for event in events:
        if event.kind == "progress":
            ends = {epoch: step for epoch, step in ends.items() if epoch <= event.epoch}
            ends[event.epoch + 1] = event.step
    return ends


def smoothed(values: Sequence[float]) -> list[float]:
    """Return at each position the mean of the last 5 % of all values, at least 5, as far as there are that many."""
    width = max(5, len(values) // 20)
    return [fmean(values[max(0, end - width) : end]) for end in range(1, len(values) + 1)]


def _numbers(data: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, float]]:
    """Yield the numbers of nested mappings, names joined by '/'."""
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)
