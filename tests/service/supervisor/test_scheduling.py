"""The choice of the jobs that start next: small examples, and properties of every queue."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.resources import ResourceCounts, shortages, total
from service.states import JobStatus
from service.store.records import Job
from service.supervisor import loop
from service.supervisor.scheduling import Pauses, next_starts
from tests.service.waiting import wait_until

NOW = 1000.0


def job(number: int, *, cpus: int = 1, gpus: int = 0, priority: int = 0, not_before: float = 0.0) -> Job:
    return Job(
        number=number, id=f"{number:032x}", name="j", status=JobStatus.QUEUED, stage=None, priority=priority, cpus=cpus,
        gpus=gpus, timeout_s=None, retry_of=None, created_at=0.0, started_at=None, finished_at=None,
        cancel_requested_at=None, not_before=not_before, attempt=0, failures=0, lease_owner=None, progress=None,
        events_offset=0, failure_kind=None, failure_message=None, mlflow_run_id=None, mlflow_status=None,
    )  # fmt: skip


def capacity(cpus: int, gpus: int = 0) -> ResourceCounts:
    return {"cpus": cpus, "gpus": gpus}


def starts_of(queued: Iterable[Job], active: Iterable[Job], have: ResourceCounts, page: int = 2) -> list[Job]:
    """Return the jobs that start now from a queue that is read in small pages."""
    ordered = sorted(queued, key=lambda one: (-one.priority, one.number))

    def read(after: Job | None, within: ResourceCounts) -> list[Job]:
        later = ordered if after is None else ordered[ordered.index(after) + 1 :]
        return [one for one in later if not shortages(one.resources, within)][:page]

    return next_starts(read, active, have, lambda one: one.not_before <= NOW)


def started(queued: list[Job], cpus: int, gpus: int = 0, active: tuple[Job, ...] = ()) -> list[int]:
    return [start.number for start in starts_of(queued, active, capacity(cpus, gpus))]


def test_jobs_are_ordered_by_priority_then_age() -> None:
    queued = [job(1), job(2, priority=5), job(3), job(4, priority=5)]
    assert started(queued, cpus=3) == [2, 4, 1]


def test_cores_of_active_jobs_are_not_available() -> None:
    assert started([job(2), job(3)], cpus=4, active=(job(1, cpus=3),)) == [2]
    assert started([job(2)], cpus=2, active=(job(1, cpus=3),)) == []


def test_job_of_several_nodes_needs_its_cores_on_all_of_them_and_shares_the_nodes() -> None:
    queued = [replace(job(1, cpus=2), num_nodes=2), job(2, cpus=2), job(3)]
    have = {"cpus": 6, "gpus": 0, "nodes": 2}
    assert [start.number for start in starts_of(queued, [], have)] == [1, 2]
    assert [start.number for start in starts_of(queued, [job(9, cpus=3)], have)] == []


def test_job_of_more_nodes_than_there_are_waits_without_delaying_others() -> None:
    queued = [replace(job(1), num_nodes=2), job(2)]
    for have in (capacity(4), {**capacity(4), "nodes": 1}):
        assert [start.number for start in starts_of(queued, [], have)] == [2]


def test_big_job_is_not_starved_by_small_ones_after_it() -> None:
    assert started([job(2, cpus=4), job(3), job(4)], cpus=4, active=(job(1),)) == []


def test_jobs_without_gpus_do_not_wait_for_a_job_that_waits_for_gpus() -> None:
    assert started([job(2, gpus=2), job(3), job(4, gpus=1)], cpus=4, gpus=2, active=(job(1, gpus=1),)) == [3]


def test_job_that_can_never_fit_delays_no_other() -> None:
    assert started([job(1, cpus=9), job(2, gpus=1), job(3)], cpus=4) == [3]


def test_jobs_after_a_thousand_that_can_never_fit_start() -> None:
    assert started([*(job(number, cpus=4) for number in range(1000)), job(1000)], cpus=2) == [1000]


def test_jobs_after_a_thousand_that_wait_for_gpus_start() -> None:
    waiting = [job(number, gpus=1) for number in range(1, 1000)]
    assert started([*waiting, job(1000)], cpus=4, gpus=1, active=(job(0, gpus=1),)) == [1000]


def test_supervisor_starts_a_job_after_more_jobs_that_cannot_start_than_it_reads_at_once(
    bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "QUEUE_PAGE", 2)
    made = bench(cpus=2)
    running = made.submit(made.at_term("exit 75"))
    made.file(running, "ready")
    for cpus in (4, 4, 4, 4, 4):
        made.submit("exit 1", cpus=cpus)
    assert made.ended(made.submit(made.SUCCEED)).status is JobStatus.SUCCEEDED


def test_pause_before_an_attempt_does_not_follow_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses, now = Pauses(retry_delay_s=60.0), time.time()
    waiting = replace(job(1, not_before=now + 1.0), attempt=1, failures=1)
    assert not pauses.is_over(waiting)
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    wait_until(lambda: pauses.is_over(waiting), "the end of the pause")
    monkeypatch.setattr(time, "time", lambda: now + 86_400)
    later = replace(job(2, not_before=now + 86_460), attempt=1, failures=1)
    assert not pauses.is_over(later)
    monkeypatch.setattr(time, "time", lambda: now + 2 * 86_400)
    assert not pauses.is_over(later)


def test_new_supervisor_does_not_wait_longer_than_the_pause_after_the_clock_was_set_back() -> None:
    pauses = Pauses(retry_delay_s=0.1)
    waiting = replace(job(1, not_before=time.time() + 3600), attempt=2, failures=2)
    wait_until(lambda: pauses.is_over(waiting), "the end of the pause")


def test_job_before_its_earliest_start_reserves_nothing() -> None:
    assert started([job(1, cpus=4, not_before=NOW + 1), job(2)], cpus=4) == [2]
    assert started([job(1, cpus=4, not_before=NOW), job(2)], cpus=4) == [1]


def test_jobs_start_even_if_earlier_jobs_hold_more_than_the_capacity() -> None:
    assert started([job(2), job(3, gpus=1)], cpus=8, gpus=1, active=(job(1, gpus=2),)) == [2]


def test_resource_of_any_name_is_counted() -> None:
    have = {"cpus": 4, "gpus": 0, "nodes": 1}
    assert [start.number for start in starts_of([job(1)], [], have)] == [1]
    assert starts_of([job(1, gpus=1)], [], {"cpus": 4, "nodes": 1}) == []


shapes = st.tuples(st.integers(1, 6), st.integers(0, 3), st.integers(-2, 2))
queues = st.lists(shapes, max_size=12).map(
    lambda rows: [job(k + 1, cpus=c, gpus=g, priority=p) for k, (c, g, p) in enumerate(rows)]
)


@given(queues, st.integers(1, 8), st.integers(0, 4), st.integers(0, 8), st.data())
def test_starts_fit_and_no_job_overtakes_one_of_higher_rank_that_lacks_the_same(
    queued: list[Job], cpus: int, gpus: int, cpus_in_use: int, data: st.DataObject
) -> None:
    gpus_in_use = data.draw(st.integers(0, gpus))
    active = [job(100, cpus=cpus_in_use, gpus=gpus_in_use)] if cpus_in_use or gpus_in_use else []
    starts = starts_of(queued, active, capacity(cpus, gpus))

    taken = total(start.resources for start in starts)
    assert taken.get("cpus", 0) <= max(0, cpus - cpus_in_use)
    assert taken.get("gpus", 0) <= gpus - gpus_in_use

    ranks = [(-start.priority, start.number) for start in starts]
    assert ranks == sorted(ranks)
    running = {start.number for start in starts}
    for waiting in (one for one in queued if one.number not in running):
        if waiting.cpus > cpus or waiting.gpus > gpus:
            continue
        later = [start for start in starts if (-start.priority, start.number) > (-waiting.priority, waiting.number)]
        # Only jobs that use none of the resources that it lacks may overtake it.
        assert all(one.gpus == 0 for one in later)
        assert not later or waiting.gpus > 0


@given(queues, st.integers(6, 8), st.integers(3, 4))
def test_every_job_starts_eventually_no_matter_what_arrives_later(queued: list[Job], cpus: int, gpus: int) -> None:
    """In each round, one running job ends and one more small job arrives."""
    have, waiting, newest = capacity(cpus, gpus), {one.number: one for one in queued}, 1000
    active: dict[int, Job] = {}
    # Small jobs that may overtake one that waits for GPUs take rounds too: of 40,000 queues none took more than 48.
    for _ in range(200):
        for start in starts_of(waiting.values(), active.values(), have):
            active[start.number] = waiting.pop(start.number)
        if active:
            del active[next(iter(active))]
        newest += 1
        waiting[newest] = replace(job(newest), priority=-2)
    assert not [number for number in waiting if number < 1000]
