"""Numbers of a run over its steps, read from its events."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.run_folder.events import TrainerEvent

Curves = dict[str, list[tuple[int, float]]]
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


def _numbers(data: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, float]]:
    """Yield the numbers of nested mappings, names joined by '/'."""
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)
