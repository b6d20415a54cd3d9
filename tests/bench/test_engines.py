"""The comparison of engines: figures of a job from its events."""

from service.store.records import Event
from tests.bench.engines import ProcessorTimes, figures, row_of


def event(time: float, kind: str) -> Event:
    return Event(seq=1, job_id="a", attempt=1, time=time, kind=kind, epoch=0, step=0, data={})  # type: ignore[arg-type]


def test_start_is_the_first_step_and_the_rate_that_of_a_median_step() -> None:
    steps = [event(time, "progress") for time in (110.0, 110.5, 111.0, 119.0)]
    assert figures(100.0, [event(105.0, "stage"), *steps], 7.0) == (10.0, 2.0, 7.0)


def test_processor_time_is_that_of_processes_with_the_word() -> None:
    own, other = ProcessorTimes("pytest"), ProcessorTimes("no process has this word")
    for times in (own, other):
        times.read()
    assert own.sum_s > 0
    assert other.sum_s == 0


def test_row_has_the_median_and_all_values() -> None:
    assert row_of((1.0, 3.0, 2.0), 1) == "2.0 (1.0, 3.0, 2.0)"
