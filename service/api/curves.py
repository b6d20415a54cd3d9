"""The curves of a training: numbers by step, read incrementally from the events of its job and thinned. Torch-free."""

from array import array
from collections.abc import Iterable
from math import isfinite
from typing import Any

from service.rest.job_detail_schemas import Curve
from service.store.records import Event

MAX_POINTS = 1000
"""Largest number of points of a curve in a response."""
_MAX_STORED = 2 * MAX_POINTS
"""A curve with more points is thinned to half of them."""
MAX_CURVES = 200
SUM = "train/sum"
"""Name of the curve with the sum of the losses of all tasks, without the weights of the tasks."""


class Points:
    """The points of one curve, in ascending order of the step."""

    def __init__(self) -> None:
        self.steps, self.epochs = array("q"), array("q")
        self.times, self.values = array("d"), array("d")

    def __len__(self) -> int:
        return len(self.steps)

    def append(self, event: Event, value: float) -> None:
        """Add a point; it replaces those of the same and of later steps, which an attempt has repeated."""
        while self.steps and self.steps[-1] >= event.step:
            for column in (self.steps, self.epochs, self.times, self.values):
                column.pop()
        self.steps.append(event.step)
        self.epochs.append(event.epoch)
        self.times.append(event.time)
        self.values.append(value)
        if len(self) > _MAX_STORED:
            kept = self.kept(_MAX_STORED // 2)
            self.steps = array("q", [self.steps[at] for at in kept])
            self.epochs = array("q", [self.epochs[at] for at in kept])
            self.times = array("d", [self.times[at] for at in kept])
            self.values = array("d", [self.values[at] for at in kept])

    def kept(self, max_points: int) -> list[int]:
        """Return the positions of at most `max_points` points (at least 4), in ascending order.

        They are the first and the last point, and the lowest and the highest of each of equally long parts of the
        steps between them.
        """
        last = len(self) - 1
        if last < max_points:
            return list(range(last + 1))
        parts = (max_points - 2) // 2
        start, length = self.steps[0], (self.steps[last] - self.steps[0] + 1) / parts
        lowest: dict[int, int] = {}
        highest: dict[int, int] = {}
        for at in range(1, last):
            part, value = int((self.steps[at] - start) / length), self.values[at]
            if part not in lowest or value < self.values[lowest[part]]:
                lowest[part] = at
            if part not in highest or value > self.values[highest[part]]:
                highest[part] = at
        return sorted({0, last, *lowest.values(), *highest.values()})

    def view(self, max_points: int) -> Curve:
        """Return the curve with at most `max_points` points."""
        kept = self.kept(max_points)
        return Curve(
            steps=[self.steps[at] for at in kept],
            epochs=[self.epochs[at] for at in kept],
            times=[round(self.times[at], 3) for at in kept],
            values=[self.values[at] for at in kept],
        )


class JobCurves:
    """The curves of one job, as far as its events have been read.

    Attributes:
        last_seq: sequence number of the last event that was read; 0 before the first.
        num_omitted: number of names without a curve, because the job reports too many.
    """

    def __init__(self) -> None:
        self.last_seq = 0
        self._points: dict[str, Points] = {}
        self._omitted: set[str] = set()

    @property
    def num_points(self) -> int:
        """Number of the points that are stored."""
        return sum(map(len, self._points.values()))

    @property
    def num_omitted(self) -> int:
        return len(self._omitted)

    def add(self, events: Iterable[Event]) -> None:
        """Add the next events of the job, in their order; those without numbers only count as read."""
        for event in events:
            self.last_seq = event.seq
            for name, value in numbers_of(event).items():
                points = self._points.get(name)
                if points is None:
                    if len(self._points) >= MAX_CURVES:
                        if len(self._omitted) < MAX_CURVES:
                            self._omitted.add(name)
                        continue
                    points = self._points[name] = Points()
                points.append(event, value)

    def view(self, max_points: int, names: Iterable[str] = ()) -> dict[str, Curve]:
        """Return all curves, or those of some names that exist, by name."""
        wanted = set(names)
        return {
            name: points.view(max_points)
            for name, points in self._points.items()
            if points and (not wanted or name in wanted)
        }


def numbers_of(event: Event) -> dict[str, float]:
    """Return the finite numbers of an event that are points of curves, by name."""
    if event.kind == "metric":
        return _finite(event.data)
    if event.kind != "progress":
        return {}
    losses = event.data.get("losses")
    found = _finite(losses) if isinstance(losses, dict) else {}
    if found:
        found[SUM] = sum(found.values())
    # Other fields, such as the weights of tasks, have a name of the form GROUP/NAME.
    more = {name: value for name, value in event.data.items() if name == "lr" or "/" in name}
    return {**found, **_finite(more)}


def _finite(data: dict[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in data.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    }
