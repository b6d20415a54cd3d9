"""The comparison of engines: figures of a job from its events."""

from service.store.records import Event
from tests.bench.engines import figures, row_of


def event(time: float, kind: str) -> Event:
    return Event(seq=1, job_id="a", attempt=1, time=time, kind=kind, epoch=0, step=0, data={})  # type: ignore[arg-type]


def test_start_is_the_first_step_and_the_rate_that_of_a_median_step() -> None:
    steps = [event(time, "progress") for time in (110.0, 110.5, 111.0, 119.0)]
    assert figures(100.0, [event(105.0, "stage"), *steps]) == (10.0, 2.0)


def test_row_has_all_values_and_the_median() -> None:
    assert row_of((1.0, 3.0, 2.0), 1) == "1.0, 3.0, 2.0 | 2.0"
