"""Who starts next: small cases by hand, and what holds for every queue."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from service.executors.base import Capacity
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


def capacity(cpus: int, gpus: int = 0) -> Capacity:
    return Capacity(cpus, tuple(f"GPU-{k}" for k in range(gpus)))


def started(queued: list[Job], cpus: int, gpus: int = 0, active: tuple[Job, ...] = ()) -> list[int]:
    return [start.job.number for start in next_starts(queued, active, (), capacity(cpus, gpus), NOW)]


def test_higher_priority_comes_first_then_age() -> None:
    queued = [job(1), job(2, priority=5), job(3), job(4, priority=5)]
    assert started(queued, cpus=3) == [2, 4, 1]


def test_cores_of_active_jobs_are_taken() -> None:
    assert started([job(2), job(3)], cpus=4, active=(job(1, cpus=3),)) == [2]
    assert started([job(2)], cpus=2, active=(job(1, cpus=3),)) == []


def test_a_big_job_is_not_starved_by_small_ones_behind_it() -> None:
    assert started([job(2, cpus=4), job(3), job(4)], cpus=4, active=(job(1),)) == []


def test_jobs_without_gpus_do_not_wait_behind_one_that_waits_for_gpus() -> None:
    taken = next_starts([job(2, gpus=2), job(3), job(4, gpus=1)], [job(1, gpus=1)], ["GPU-0"], capacity(4, 2), NOW)
    assert [start.job.number for start in taken] == [3]


def test_a_job_that_can_never_fit_holds_nobody_up() -> None:
    assert started([job(1, cpus=9), job(2, gpus=1), job(3)], cpus=4) == [3]


def test_a_job_whose_time_has_not_come_reserves_nothing() -> None:
    assert started([job(1, cpus=4, not_before=NOW + 1), job(2)], cpus=4) == [2]
    assert started([job(1, cpus=4, not_before=NOW), job(2)], cpus=4) == [1]


def test_every_job_gets_gpus_of_its_own() -> None:
    starts = next_starts([job(1, gpus=1), job(2, gpus=2)], [job(9, gpus=1)], {"GPU-1"}, capacity(8, 4), NOW)
    assert [start.gpu_ids for start in starts] == [("GPU-0",), ("GPU-2", "GPU-3")]


shapes = st.tuples(st.integers(1, 6), st.integers(0, 3), st.integers(-2, 2))
queues = st.lists(shapes, max_size=12).map(
    lambda rows: [job(k + 1, cpus=c, gpus=g, priority=p) for k, (c, g, p) in enumerate(rows)]
)


@given(queues, st.integers(1, 8), st.integers(0, 4), st.integers(0, 8), st.data())
def test_what_starts_fits_and_nobody_starts_before_an_equal_of_higher_rank(
    queued: list[Job], cpus: int, gpus: int, cpus_in_use: int, data: st.DataObject
) -> None:
    have = capacity(cpus, gpus)
    in_use = data.draw(st.sets(st.sampled_from(have.gpu_ids))) if gpus else set()
    active = [job(100, cpus=cpus_in_use)] if cpus_in_use else []
    starts = next_starts(queued, active, in_use, have, NOW)

    assert sum(start.job.cpus for start in starts) <= max(0, cpus - cpus_in_use)
    given_out = [gpu_id for start in starts for gpu_id in start.gpu_ids]
    assert len(given_out) == len(set(given_out))
    assert set(given_out) <= set(have.gpu_ids) - in_use
    assert all(len(start.gpu_ids) == start.job.gpus for start in starts)

    ranks = [(-start.job.priority, start.job.number) for start in starts]
    assert ranks == sorted(ranks)
    running = {start.job.number for start in starts}
    for waiting in (one for one in queued if one.number not in running):
        if waiting.cpus > have.cpus or waiting.gpus > gpus:
            continue
        behind = [
            start.job
            for start in starts
            if (-start.job.priority, start.job.number) > (-waiting.priority, waiting.number)
        ]
        # Only jobs that take nothing of what it lacks may pass it.
        assert all(one.gpus == 0 for one in behind)
        assert not behind or waiting.gpus > 0


@given(queues, st.integers(6, 8), st.integers(3, 4))
def test_every_job_starts_in_the_end_whatever_arrives_behind_it(queued: list[Job], cpus: int, gpus: int) -> None:
    """Each round one running job ends and one more small job arrives."""
    have, waiting, newest = capacity(cpus, gpus), {one.number: one for one in queued}, 1000
    active: dict[int, tuple[Job, tuple[str, ...]]] = {}
    # Small jobs that may pass one that waits for GPUs take rounds too: of 40,000 queues none took more than 48.
    for _ in range(200):
        taken = {gpu_id for _, gpu_ids in active.values() for gpu_id in gpu_ids}
        for start in next_starts(waiting.values(), [one for one, _ in active.values()], taken, have, NOW):
            active[start.job.number] = (waiting.pop(start.job.number), start.gpu_ids)
        if active:
            del active[next(iter(active))]
        newest += 1
        waiting[newest] = replace(job(newest), priority=-2)
    assert not [number for number in waiting if number < 1000]
