"""Curves of a job: losses and metrics by step, read incrementally and thinned."""

from collections.abc import Callable, Sequence
from typing import Any

import httpx2
import pytest

from service.api import curve_cache
from service.api.curves import MAX_CURVES, MAX_POINTS, SUM, JobCurves
from service.settings import Settings
from service.store.jobs import JobStore
from service.store.records import Event, EventKind, Job


def event(seq: int, step: int, data: dict[str, Any], kind: EventKind = "metric", attempt: int = 1) -> Event:
    return Event(seq, "job", attempt, float(seq), kind, step // 100, step, data)


def metrics(values: Sequence[float], name: str = "val/kind/accuracy") -> list[Event]:
    return [event(number + 1, 10 * number, {name: value}) for number, value in enumerate(values)]


def test_curves_have_the_losses_their_sum_and_the_learning_rate_but_no_speeds() -> None:
    curves = JobCurves()
    losses = {"train/boxes/box": 0.5, "train/kind/bce": 0.25}
    progress = {"losses": losses, "lr": 0.1, "balance/boxes": 2.0, "images_per_s": 7.0, "batch": 3}
    curves.add([event(4, 20, progress, "progress"), event(5, 20, {"stage": "evaluating"}, "stage")])
    found = curves.view(10)
    assert {name: curve.values for name, curve in found.items()} == {
        **{name: [value] for name, value in losses.items()},
        SUM: [0.75],
        "lr": [0.1],
        "balance/boxes": [2.0],
    }
    assert found["lr"].model_dump() == {"steps": [20], "epochs": [0], "times": [4.0], "values": [0.1]}
    assert curves.last_seq == 5


def test_undefined_and_infinite_numbers_are_no_points() -> None:
    curves = JobCurves()
    curves.add([event(1, 1, {"val/a": None, "val/b": float("nan"), "val/c": "text", "val/d": True, "val/e": 1})])
    assert {name: curve.values for name, curve in curves.view(10).items()} == {"val/e": [1.0]}


def test_progress_of_counted_work_has_no_curves() -> None:
    curves = JobCurves()
    curves.add([event(1, 0, {"done": 3, "total": 9, "unit": "images", "per_s": 1.5, "left_s": 4.0}, "progress")])
    assert curves.view(10) == {}


def test_steps_that_a_later_attempt_repeats_are_replaced() -> None:
    curves = JobCurves()
    curves.add(metrics([1.0, 2.0, 3.0, 4.0]))
    curves.add([event(5, 20, {"val/kind/accuracy": 9.0}, attempt=2)])
    found = curves.view(10)["val/kind/accuracy"]
    assert (found.steps, found.values) == ([0, 10, 20], [1.0, 2.0, 9.0])


@pytest.mark.parametrize("num_points", [5, 100, 2 * MAX_POINTS, 9 * MAX_POINTS])
def test_thinned_curve_keeps_its_ends_and_its_extreme_values(num_points: int) -> None:
    values = [float(number % 7) for number in range(num_points)]
    values[num_points // 3], values[num_points // 2] = 100.0, -100.0
    curves = JobCurves()
    curves.add(metrics(values))
    assert curves.num_points <= 2 * MAX_POINTS
    found = curves.view(20)["val/kind/accuracy"]
    assert len(found.steps) == len(found.values) == min(num_points, len(found.times)) <= 20
    assert found.steps == sorted(set(found.steps))
    assert (found.steps[0], found.steps[-1]) == (0, 10 * (num_points - 1))
    assert (max(found.values), min(found.values)) == (100.0, -100.0)
    assert found.steps[found.values.index(100.0)] == 10 * (num_points // 3)


def test_number_of_curves_is_limited() -> None:
    curves = JobCurves()
    curves.add([event(1, 0, {f"val/{number}": 1.0 for number in range(MAX_CURVES + 3)})])
    assert (len(curves.view(10)), curves.num_omitted) == (MAX_CURVES, 3)


@pytest.fixture
def settings(shared_settings: Settings) -> Settings:
    return shared_settings


@pytest.fixture
def api(shared_api: httpx2.Client) -> httpx2.Client:
    return shared_api


def test_requests_read_only_new_events(
    api: httpx2.Client,
    running_job: Callable[[], Job],
    record: Callable[..., Job],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = record(running_job(), range(1200), **{"val/kind/accuracy": 0.5, "val/kind/mAP": 0.25})
    reads: list[int] = []
    events = JobStore.events

    def counted(self: JobStore, job_id: str, after: int, limit: int = 500) -> list[Event]:
        reads.append(len(found := events(self, job_id, after, limit)))
        return found

    monkeypatch.setattr(JobStore, "events", counted)
    answer = api.get(f"/v1/jobs/{job.id}/curves", params={"max_points": 100, "name": "val/kind/accuracy"})
    (name, curve), *others = answer.json()["curves"].items()
    assert (name, others, len(curve["steps"]) <= 100, curve["steps"][-1]) == ("val/kind/accuracy", [], True, 1199)
    assert sum(reads) >= 1200
    reads.clear()
    again = api.get(answer.url, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, reads) == (304, [0])
    record(job, [1200], **{"val/kind/accuracy": 0.75})
    newest = api.get(answer.url).json()
    assert (newest["curves"]["val/kind/accuracy"]["values"][-1], reads) == (0.75, [0, 1])
    assert newest["next_after"] == answer.json()["next_after"] + 1


def test_first_requests_for_many_events_read_on_from_each_other(
    api: httpx2.Client, running_job: Callable[[], Job], record: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curve_cache, "READ_S", -1.0)
    job = record(running_job(), range(1200), loss=1.0)
    found = [api.get(f"/v1/jobs/{job.id}/curves").json() for _ in range(3)]
    assert [answer["is_complete"] for answer in found] == [False, False, True]
    last = [answer["curves"]["loss"]["steps"][-1] for answer in found]
    assert last == sorted(last)
    assert last[-1] == 1199


def test_curves_of_jobs_that_nobody_reads_leave_the_memory(
    api: httpx2.Client, running_job: Callable[[], Job], record: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curve_cache, "MAX_KEPT_POINTS", 1)
    jobs = [record(running_job(), range(3), loss=1.0) for _ in range(2)]
    for job in [*jobs, *jobs]:
        assert api.get(f"/v1/jobs/{job.id}/curves").json()["curves"]["loss"]["steps"] == [0, 1, 2]


def test_curves_of_an_unknown_job_and_of_a_new_one(api: httpx2.Client, queued_job: Callable[[], Job]) -> None:
    assert api.get("/v1/jobs/unknown/curves").status_code == 404
    found = api.get(f"/v1/jobs/{queued_job().id}/curves").json()
    assert (found["curves"], found["num_omitted"]) == ({}, 0)
    assert api.get(f"/v1/jobs/{queued_job().id}/curves?max_points=3").status_code == 422
