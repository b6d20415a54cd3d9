"""A supervisor writes its jobs, but nothing once another supervisor holds the leases."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, insert
from sqlalchemy.exc import IntegrityError

from service.states import FailureKind, JobStatus
from service.store.database import writing
from service.store.errors import CancelRequested, LeaseLost
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import Job, NewJob
from service.store.tables import attempts

NewJobs = Callable[..., NewJob]
FAILURE = (FailureKind.OUT_OF_MEMORY, "the GPU's memory is full; halve data.sources.*.batch_size")


def event(kind: str, *, epoch: int = 0, step: int = 0, **data: Any) -> dict[str, Any]:
    return {"time": 5.0, "kind": kind, "epoch": epoch, "step": step, "data": data}


@pytest.fixture
def held(store: JobStore, leased: LeasedStore, new_job: NewJobs) -> Job:
    """A job that `leased` has just claimed."""
    job = leased.claim(store.submit(new_job(gpus=1))[0].id, ["GPU-a"])
    assert job
    return job


def everything(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        return [connection.exec_driver_sql(f"SELECT * FROM {name}").all() for name in ("jobs", "attempts", "events")]


def writes(store: LeasedStore, job: Job) -> dict[str, Callable[[], Any]]:
    """Every write that requires the lease."""
    return {
        "move": lambda: store.move(job, JobStatus.RUNNING),
        "fail": lambda: store.move(job, JobStatus.FAILED, failure=FAILURE),
        "requeue": lambda: store.requeue(job, not_before=9.0, spends_retry=True, message="again"),
        "end_attempt": lambda: store.end_attempt(job, "failed", 1),
        "record_events": lambda: store.record_events(job, [event("progress")], 10),
        "set_mlflow_run": lambda: store.set_mlflow_run(job, "run"),
    }


def test_claim_starts_the_next_attempt(store: JobStore, leased: LeasedStore, held: Job) -> None:
    assert (held.status, held.attempt, held.lease_owner) == (JobStatus.STARTING, 1, "first")
    [attempt] = store.attempts(held.id)
    assert (attempt.number, attempt.lease_owner, attempt.gpu_ids) == (1, "first", ("GPU-a",))
    assert attempt.started_at == held.started_at
    assert (attempt.ended_at, attempt.outcome, attempt.exit_code) == (None, None, None)
    assert store.events(held.id, after=0)[-1].data == {"from": "queued", "to": "starting", "attempt": 1}
    assert leased.claim(held.id, []) is None, "it is no longer queued"
    assert leased.claim("nowhere", []) is None
    assert leased.active() == [held]


def test_claim_whose_attempt_cannot_be_written_leaves_the_job_queued(
    engine: Engine, store: JobStore, leased: LeasedStore, new_job: NewJobs
) -> None:
    job, _ = store.submit(new_job())
    with writing(engine) as connection:
        row = {"job_id": job.id, "number": 1, "lease_owner": "x", "gpu_ids": [], "started_at": 0.0}
        connection.execute(insert(attempts).values(row))
    with pytest.raises(IntegrityError):
        leased.claim(job.id, [])
    assert store.get(job.id) == job


@pytest.mark.parametrize("write", ["move", "fail", "requeue", "end_attempt", "record_events", "set_mlflow_run"])
def test_replaced_supervisor_writes_nothing(engine: Engine, leased: LeasedStore, held: Job, write: str) -> None:
    new = LeasedStore(engine, "second")
    [adopted] = new.adopt_all()
    assert adopted.lease_owner == "second"
    assert leased.active() == []
    before = everything(engine)
    with pytest.raises(LeaseLost, match=f"job {held.id}, attempt 1: another supervisor"):
        writes(leased, held)[write]()
    assert everything(engine) == before
    writes(new, adopted)[write]()
    assert everything(engine) != before


@pytest.mark.parametrize("write", ["move", "fail", "requeue", "end_attempt", "record_events", "set_mlflow_run"])
def test_nothing_is_written_for_an_attempt_that_has_ended(
    engine: Engine, leased: LeasedStore, held: Job, write: str
) -> None:
    queued = leased.requeue(held, not_before=0.0, spends_retry=True, message="the trainer exited with code 1")
    for job in (held, queued):
        with pytest.raises(LeaseLost):
            writes(leased, job)[write]()
    assert leased.claim(held.id, [])
    before = everything(engine)
    with pytest.raises(LeaseLost):
        writes(leased, held)[write]()
    assert everything(engine) == before


@pytest.mark.parametrize("write", ["move", "fail", "requeue", "end_attempt", "record_events", "set_mlflow_run"])
def test_nothing_is_written_for_a_job_that_has_ended(
    engine: Engine, leased: LeasedStore, held: Job, write: str
) -> None:
    failed = leased.move(held, JobStatus.FAILED, failure=FAILURE)
    before = everything(engine)
    for job in (held, failed):
        with pytest.raises(LeaseLost):
            writes(leased, job)[write]()
    assert everything(engine) == before


def test_failed_job_has_a_failure_reason(store: JobStore, leased: LeasedStore, held: Job) -> None:
    held = leased.record_events(held, [event("stage", stage="training")], 1)
    leased.end_attempt(held, "failed", 1, "out of memory")
    failed = leased.move(held, JobStatus.FAILED, failure=FAILURE)
    assert (failed.failure_kind, failed.failure_message) == FAILURE
    assert (failed.stage, failed.lease_owner) == (None, None)
    assert failed.finished_at is not None
    assert store.events(held.id, after=0)[-1].data == {
        "from": "starting", "to": "failed", "attempt": 1, "message": FAILURE[1],
    }  # fmt: skip
    [attempt] = store.attempts(held.id)
    assert (attempt.outcome, attempt.exit_code, attempt.message) == ("failed", 1, "out of memory")
    assert attempt.ended_at is not None


def test_job_cannot_fail_without_a_reason(store: JobStore, leased: LeasedStore, held: Job) -> None:
    for to, failure in ((JobStatus.FAILED, None), (JobStatus.RUNNING, FAILURE)):
        with pytest.raises(ValueError, match="pass a failure"):
            leased.move(held, to, failure=failure)
    assert store.get(held.id) == held


@pytest.mark.parametrize("spends_retry", [True, False])
def test_requeued_job_waits_and_keeps_its_first_start(
    store: JobStore, leased: LeasedStore, held: Job, spends_retry: bool
) -> None:
    leased.end_attempt(held, "lost")
    queued = leased.requeue(held, not_before=123.0, spends_retry=spends_retry, message="the shim is gone")
    assert (queued.status, queued.not_before, queued.failures, queued.attempt, queued.lease_owner) == (
        JobStatus.QUEUED, 123.0, int(spends_retry), 1, None,
    )  # fmt: skip
    assert store.events(held.id, after=0)[-1].data == {
        "from": "starting", "to": "queued", "attempt": 1, "message": "the shim is gone",
    }  # fmt: skip
    assert leased.queued() == [queued]
    again = leased.claim(held.id, ["GPU-b"])
    assert again
    assert (again.attempt, again.started_at) == (2, held.started_at)
    assert [attempt.gpu_ids for attempt in store.attempts(held.id)] == [("GPU-a",), ("GPU-b",)]
    assert leased.gpu_ids_in_use() == {"GPU-b"}


@pytest.mark.parametrize("end", ["succeed", "fail", "requeue"])
def test_earlier_cancel_request_determines_the_final_status(
    engine: Engine, store: JobStore, leased: LeasedStore, held: Job, end: str
) -> None:
    stale = leased.move(leased.move(held, JobStatus.RUNNING), JobStatus.FINALIZING)
    store.request_cancel(held.id)
    ends: dict[str, Callable[[], Job]] = {
        "succeed": lambda: leased.move(stale, JobStatus.SUCCEEDED),
        "fail": lambda: leased.move(stale, JobStatus.FAILED, failure=FAILURE),
        "requeue": lambda: leased.requeue(stale, not_before=0.0, spends_retry=False, message="again"),
    }
    before = everything(engine)
    with pytest.raises(CancelRequested, match="ends as cancelled") as refused:
        ends[end]()
    assert refused.value.job.cancel_requested_at is not None
    assert everything(engine) == before
    cancelled = leased.move(leased.move(refused.value.job, JobStatus.CANCELLING), JobStatus.CANCELLED)
    assert (cancelled.status, store.request_cancel(held.id)) == (JobStatus.CANCELLED, cancelled)


def test_events_are_appended_and_update_the_job(store: JobStore, leased: LeasedStore, held: Job) -> None:
    lines = [
        event("stage", stage="preparing"),
        event("progress", epoch=1, step=10, losses={"cells/box": 0.5}),
        event("metric", epoch=1, step=10, value=0.25),
        event("stage", epoch=1, stage="training"),
        event("progress", epoch=2, step=20, losses={"cells/box": 0.25}),
        event("warning", message="hm"),
    ]
    job = leased.record_events(held, lines, 700)
    assert (job.stage, job.events_offset) == ("training", 700)
    assert job.progress == {"epoch": 2, "step": 20, "losses": {"cells/box": 0.25}}
    recorded = store.events(held.id, after=0)[2:]
    assert [
        {"time": one.time, "kind": one.kind, "epoch": one.epoch, "step": one.step, "data": one.data} for one in recorded
    ] == lines
    assert {one.attempt for one in recorded} == {1}
    assert [one.seq for one in recorded] == sorted({one.seq for one in recorded})
    job = leased.record_events(job, [], 710)
    assert (job.stage, job.progress, job.events_offset) == (
        "training",
        {**lines[4]["data"], "epoch": 2, "step": 20},
        710,
    )


def test_lines_that_are_not_events_are_skipped(store: JobStore, leased: LeasedStore, held: Job) -> None:
    forged = event("status") | {"data": {"from": "starting", "to": "succeeded", "attempt": 1}}
    progress = event("progress")
    nonsense: list[Any] = [forged, None, 7, "text", [], {}, {"kind": "progress"}, {**progress, "kind": ["stage"]}]
    nonsense += [{**progress, "data": 3}, {**progress, "epoch": "one"}, {**progress, "time": None}]
    job = leased.record_events(held, [*nonsense, event("progress", step=3)], 99)
    assert (job.events_offset, job.progress, job.status) == (99, {"epoch": 0, "step": 3}, JobStatus.STARTING)
    assert [one.kind for one in store.events(held.id, after=0)] == ["status", "status", "progress"]


def test_events_are_not_recorded_twice(engine: Engine, store: JobStore, leased: LeasedStore, held: Job) -> None:
    leased.record_events(held, [event("progress", step=1)], 50)
    before = everything(engine)
    with pytest.raises(ValueError, match="read from byte 0, but are recorded up to 50"):
        leased.record_events(held, [event("progress", step=1)], 50)
    assert everything(engine) == before


def test_events_and_offset_are_written_together_or_not_at_all(
    engine: Engine, store: JobStore, leased: LeasedStore, held: Job
) -> None:
    before = everything(engine)
    lines = [event("progress", step=1), event("metric", value={1, 2})]
    with pytest.raises(Exception, match="not JSON serializable"):
        leased.record_events(held, lines, 50)
    assert everything(engine) == before


def test_run_is_recorded_and_settled_once_the_job_has_ended(store: JobStore, leased: LeasedStore, held: Job) -> None:
    job = leased.set_mlflow_run(held, "run")
    leased.settle(job.id, "FINISHED")
    assert store.get(job.id) == job, "it has not ended"
    assert leased.unsettled() == []
    failed = leased.move(job, JobStatus.FAILED, failure=FAILURE)
    assert leased.unsettled() == [failed]
    leased.settle(job.id, "FAILED")
    assert (leased.unsettled(), store.get(job.id).mlflow_status) == ([], "FAILED")


def test_new_supervisor_adopts_the_active_jobs(
    engine: Engine, store: JobStore, leased: LeasedStore, new_job: NewJobs
) -> None:
    ids = [store.submit(new_job())[0].id for _ in range(4)]
    claimed = [leased.claim(job_id, []) for job_id in reversed(ids[:3])]
    assert claimed[2]
    leased.move(claimed[2], JobStatus.FAILED, failure=FAILURE)
    new = LeasedStore(engine, "second")
    assert new.active() == []
    adopted = new.adopt_all()
    assert [job.id for job in adopted] == ids[1:3]
    assert new.active() == adopted == store.holders()
    assert [job.id for job in new.queued()] == ids[3:]
    assert new.adopt_all() == adopted
