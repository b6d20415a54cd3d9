"""The choice of the jobs that start next: small examples, and properties of every queue."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from service.resources import ResourceCounts, total
from service.states import JobStatus
from service.store.records import Job
from service.supervisor.scheduling import next_starts

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


def started(queued: list[Job], cpus: int, gpus: int = 0, active: tuple[Job, ...] = ()) -> list[int]:
    return [start.number for start in next_starts(queued, active, capacity(cpus, gpus), NOW)]


def test_jobs_are_ordered_by_priority_then_age() -> None:
    queued = [job(1), job(2, priority=5), job(3), job(4, priority=5)]
    assert started(queued, cpus=3) == [2, 4, 1]


def test_cores_of_active_jobs_are_not_available() -> None:
    assert started([job(2), job(3)], cpus=4, active=(job(1, cpus=3),)) == [2]
    assert started([job(2)], cpus=2, active=(job(1, cpus=3),)) == []


def test_big_job_is_not_starved_by_small_ones_after_it() -> None:
    assert started([job(2, cpus=4), job(3), job(4)], cpus=4, active=(job(1),)) == []


def test_jobs_without_gpus_do_not_wait_for_a_job_that_waits_for_gpus() -> None:
    assert started([job(2, gpus=2), job(3), job(4, gpus=1)], cpus=4, gpus=2, active=(job(1, gpus=1),)) == [3]


def test_job_that_can_never_fit_delays_no_other() -> None:
    assert started([job(1, cpus=9), job(2, gpus=1), job(3)], cpus=4) == [3]


def test_job_before_its_earliest_start_reserves_nothing() -> None:
    assert started([job(1, cpus=4, not_before=NOW + 1), job(2)], cpus=4) == [2]
    assert started([job(1, cpus=4, not_before=NOW), job(2)], cpus=4) == [1]


def test_jobs_start_even_if_earlier_jobs_hold_more_than_the_capacity() -> None:
    assert started([job(2), job(3, gpus=1)], cpus=8, gpus=1, active=(job(1, gpus=2),)) == [2]


def test_resource_of_any_name_is_counted() -> None:
    have = {"cpus": 4, "gpus": 0, "nodes": 1}
    assert [start.number for start in next_starts([job(1)], [], have, NOW)] == [1]
    assert next_starts([job(1, gpus=1)], [], {"cpus": 4, "nodes": 1}, NOW) == []


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
    starts = next_starts(queued, active, capacity(cpus, gpus), NOW)

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
        for start in next_starts(waiting.values(), active.values(), have, NOW):
            active[start.number] = waiting.pop(start.number)
        if active:
            del active[next(iter(active))]
        newest += 1
        waiting[newest] = replace(job(newest), priority=-2)
    assert not [number for number in waiting if number < 1000]
