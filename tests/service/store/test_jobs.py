"""Jobs as the API reads and writes them."""

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, func, select

from service.states import FailureKind, JobStatus
from service.store.errors import AlreadyEnded, KeyReused, NotEnded, NotFound, NotQueued
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import Job, NewJob
from service.store.tables import metadata

NewJobs = Callable[..., NewJob]
FAILURE = (FailureKind.INTERNAL, "the trainer exited with code 1")


def ended(leased: LeasedStore, job: Job, status: JobStatus, run: str | None = None) -> Job:
    """Move a queued job to one of the terminal states that a supervisor writes."""
    claimed = leased.claim(job.id, [])
    assert claimed
    if run is not None:
        claimed = leased.set_mlflow_run(claimed, run)
    if status is JobStatus.FAILED:
        return leased.move(claimed, status, failure=FAILURE)
    path = {
        JobStatus.SUCCEEDED: (JobStatus.RUNNING, JobStatus.FINALIZING),
        JobStatus.CANCELLED: (JobStatus.CANCELLING,),
    }
    for step in (*path[status], status):
        claimed = leased.move(claimed, step)
    return claimed


def test_submitted_job_is_queued_and_has_one_event(store: JobStore, new_job: NewJobs) -> None:
    before = round(time.time(), 6)
    asked = new_job(name="bccd", config={"name": "bccd", "x": [1, None]}, priority=3, cpus=2, gpus=1, timeout_s=60.0)
    job, is_new = store.submit(asked)
    assert is_new
    assert store.get(job.id) == job
    assert (job.name, job.status, job.priority, job.cpus, job.gpus, job.timeout_s) == (
        "bccd", JobStatus.QUEUED, 3, 2, 1, 60.0,
    )  # fmt: skip
    assert (job.attempt, job.failures, job.lease_owner, job.progress, job.stage) == (0, 0, None, None, None)
    assert before <= job.created_at == job.not_before <= time.time()
    assert store.config(job.id) == asked.config
    [event] = store.events(job.id, after=0)
    assert (event.kind, event.attempt, event.data) == ("status", 0, {"from": None, "to": "queued", "attempt": 0})
    assert store.attempts(job.id) == []


def test_unknown_job_is_not_found(store: JobStore) -> None:
    for ask in (store.get, store.config, store.request_cancel, store.delete):
        with pytest.raises(NotFound, match="no job has the id 'nowhere'"):
            ask("nowhere")
    with pytest.raises(NotFound):
        store.set_priority("nowhere", 1)
    assert (store.attempts("nowhere"), store.events("nowhere", after=0), store.job_of_run("nowhere")) == ([], [], None)


def test_new_id_is_drawn_if_an_id_is_taken(store: JobStore, new_job: NewJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(["aaaaaaaaaaaa", "aaaaaaaaaaaa", "bbbbbbbbbbbb"])
    monkeypatch.setattr(secrets, "token_hex", lambda _: next(drawn))
    assert [store.submit(new_job())[0].id for _ in range(2)] == ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]
    assert [len(store.events(job.id, after=0)) for job in store.page()] == [1, 1]


def test_key_returns_the_job_that_it_created(store: JobStore, leased: LeasedStore, new_job: NewJobs) -> None:
    first, _ = store.submit(new_job(), "key", "hash")
    assert store.submit(new_job(name="other"), "key", "hash") == (first, False)
    done = ended(leased, first, JobStatus.SUCCEEDED)
    assert store.submit(new_job(), "key", "hash") == (done, False)
    with pytest.raises(KeyReused, match="'key' was used for another request"):
        store.submit(new_job(), "key", "another hash")
    assert store.submit(new_job(), "another key", "hash")[1]
    assert sum(store.counts().values()) == 2


def test_key_without_a_hash_is_rejected(store: JobStore, new_job: NewJobs) -> None:
    with pytest.raises(ValueError, match="belong together"):
        store.submit(new_job(), "key")


@pytest.mark.representative
def test_fifty_concurrent_submissions_with_one_key_create_one_job(store: JobStore, new_job: NewJobs) -> None:
    together = threading.Barrier(50)

    def submit(_: int) -> tuple[Job, bool]:
        together.wait()
        return store.submit(new_job(), "key", "hash")

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(submit, range(50)))
    assert sorted(is_new for _, is_new in answers) == [False] * 49 + [True]
    assert {job for job, _ in answers} == set(store.page())
    assert len(store.page()) == 1


def test_queued_job_is_cancelled_at_once(store: JobStore, leased: LeasedStore, new_job: NewJobs) -> None:
    job, _ = store.submit(new_job())
    cancelled = store.request_cancel(job.id)
    assert cancelled.status is JobStatus.CANCELLED
    assert cancelled.finished_at == cancelled.cancel_requested_at is not None
    assert store.events(job.id, after=0)[-1].data == {"from": "queued", "to": "cancelled", "attempt": 0}
    assert store.request_cancel(job.id) == cancelled, "a second time changes nothing"
    assert leased.claim(job.id, []) is None


def test_cancel_request_for_an_active_job_is_recorded_once(
    store: JobStore, leased: LeasedStore, new_job: NewJobs
) -> None:
    job, _ = store.submit(new_job())
    leased.claim(job.id, [])
    requested = store.request_cancel(job.id)
    assert (requested.status, requested.finished_at) == (JobStatus.STARTING, None)
    assert requested.cancel_requested_at is not None
    assert store.request_cancel(job.id) == requested
    assert [event.data["to"] for event in store.events(job.id, after=0)] == ["queued", "starting"]


@pytest.mark.parametrize("status", [JobStatus.SUCCEEDED, JobStatus.FAILED])
def test_job_that_has_succeeded_or_failed_is_not_cancelled(
    store: JobStore, leased: LeasedStore, new_job: NewJobs, status: JobStatus
) -> None:
    job = ended(leased, store.submit(new_job())[0], status)
    with pytest.raises(AlreadyEnded, match=f"has already ended: {status}") as refused:
        store.request_cancel(job.id)
    assert refused.value.job == job == store.get(job.id)


def test_priority_can_change_only_while_a_job_is_queued(store: JobStore, leased: LeasedStore, new_job: NewJobs) -> None:
    first, second = (store.submit(new_job())[0] for _ in range(2))
    assert store.set_priority(second.id, 5).priority == 5
    assert [job.id for job in leased.queued()] == [second.id, first.id]
    leased.claim(first.id, [])
    with pytest.raises(NotQueued, match="is starting"):
        store.set_priority(first.id, 9)
    assert store.get(first.id).priority == 0


def test_jobs_ahead_have_a_higher_priority_or_are_older(store: JobStore, leased: LeasedStore, new_job: NewJobs) -> None:
    made = [store.submit(new_job(priority=priority))[0] for priority in (0, 5, 0, -1, 5)]
    order = leased.queued()
    assert [job.number for job in order] == [made[index].number for index in (1, 4, 0, 2, 3)]
    assert [store.jobs_ahead(job) for job in order] == [0, 1, 2, 3, 4]
    assert leased.queued(limit=2) == order[:2]


def test_queue_is_read_in_pages_of_jobs_that_fit(store: JobStore, leased: LeasedStore, new_job: NewJobs) -> None:
    requests = [{"cpus": 4}, {"cpus": 2}, {"gpus": 1}, {"priority": 5}, {"cpus": 2}]
    made = [store.submit(new_job(**request))[0] for request in requests]
    within = {"cpus": 2, "gpus": 0}
    first = leased.queued(2, within=within)
    assert first == [made[3], made[1]]
    assert leased.queued(2, after=first[-1], within=within) == [made[4]]
    assert leased.queued(2, after=made[4], within=within) == []


def test_rows_of_a_job_are_deleted_with_it(
    engine: Engine, store: JobStore, leased: LeasedStore, new_job: NewJobs
) -> None:
    kept, _ = store.submit(new_job(), "kept", "hash")
    job = ended(leased, store.submit(new_job(), "key", "hash")[0], JobStatus.FAILED)
    store.delete(job.id)
    with pytest.raises(NotFound):
        store.get(job.id)
    with engine.connect() as connection:
        rows = {
            name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in metadata.tables.items()
            if name == "jobs" or "job_id" in table.c
        }
    left = {"jobs": 1, "events": 1, "idempotency_keys": 1}
    assert rows == {**dict.fromkeys(("attempts", "dataset_uses", "job_deletions", "sweep_trials"), 0), **left}
    assert store.page() == [kept]
    again, is_new = store.submit(new_job(), "key", "hash")
    assert is_new, "its key is free"
    assert again.number > job.number, "numbers are not used twice"


def test_job_that_has_not_ended_is_not_deleted(store: JobStore, leased: LeasedStore, new_job: NewJobs) -> None:
    job, _ = store.submit(new_job())
    with pytest.raises(NotEnded, match="is queued; cancel it"):
        store.delete(job.id)
    leased.claim(job.id, [])
    with pytest.raises(NotEnded, match="is starting; cancel it"):
        store.delete(job.id)


def test_job_is_deleted_only_after_mlflow_has_its_final_status(
    store: JobStore, leased: LeasedStore, new_job: NewJobs
) -> None:
    job = ended(leased, store.submit(new_job())[0], JobStatus.SUCCEEDED, run="run")
    assert leased.unsettled() == [job]
    with pytest.raises(NotEnded, match="MLflow has not been updated"):
        store.delete(job.id)
    leased.settle(job.id, "FINISHED")
    assert leased.unsettled() == []
    store.delete(job.id)
    assert store.page() == []


def test_counts_include_every_state(store: JobStore, leased: LeasedStore, new_job: NewJobs) -> None:
    assert store.counts() == dict.fromkeys(JobStatus, 0)
    assert store.oldest_queued_at() is None
    for status in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED):
        ended(leased, store.submit(new_job())[0], status)
    oldest, _ = store.submit(new_job())
    store.submit(new_job(priority=9))
    assert {status: number for status, number in store.counts().items() if number} == {
        JobStatus.QUEUED: 2, JobStatus.SUCCEEDED: 1, JobStatus.FAILED: 1, JobStatus.CANCELLED: 1,
    }  # fmt: skip
    assert store.oldest_queued_at() == oldest.created_at


def test_slots_are_held_while_an_attempt_may_be_alive(store: JobStore, leased: LeasedStore, new_job: NewJobs) -> None:
    assert store.slots_in_use() == (0, 0)
    job, _ = store.submit(new_job(cpus=3, gpus=2))
    store.submit(new_job(cpus=7, gpus=1))
    assert (store.slots_in_use(), store.holders()) == ((0, 0), [])
    held = leased.claim(job.id, ["GPU-a", "GPU-b"])
    assert held
    for status in (JobStatus.RUNNING, JobStatus.FINALIZING, JobStatus.CANCELLING):
        assert (store.slots_in_use(), store.holders(), leased.gpu_ids_in_use()) == ((3, 2), [held], {"GPU-a", "GPU-b"})
        held = leased.move(held, status)
    leased.move(held, JobStatus.CANCELLED)
    assert (store.slots_in_use(), store.holders(), leased.gpu_ids_in_use()) == ((0, 0), [], set())


def test_job_is_found_by_its_run(store: JobStore, leased: LeasedStore, new_job: NewJobs) -> None:
    job = ended(leased, store.submit(new_job())[0], JobStatus.FAILED, run="run")
    assert (store.job_of_run("run"), store.job_of_run("another")) == (job.id, None)


def test_reader_of_events_continues_after_the_last_one(store: JobStore, leased: LeasedStore, new_job: NewJobs) -> None:
    first, second = (store.submit(new_job())[0] for _ in range(2))
    seen = store.newest_seq(after=0)
    assert seen == {job.id: store.events(job.id, after=0)[-1].seq for job in (first, second)}
    highest = max(seen.values())
    assert store.newest_seq(after=highest) == {}
    ended(leased, first, JobStatus.SUCCEEDED)
    everything = store.events(first.id, after=0)
    assert store.newest_seq(after=highest) == {first.id: everything[-1].seq}
    read, after = [], 0
    while some := store.events(first.id, after, limit=2):
        read += some
        after = some[-1].seq
    assert read == everything
    assert [event.data["to"] for event in read] == ["queued", "starting", "running", "finalizing", "succeeded"]
