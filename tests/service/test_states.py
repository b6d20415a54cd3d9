"""The states of a job, and the transitions that the table allows."""

import shutil
from pathlib import Path

import pytest

from service.states import ACTIVE, FINAL_FAILURES, TERMINAL, TRANSITIONS, FailureKind, JobStatus, Writer
from service.store.database import open_database
from service.store.errors import IllegalTransition, LeaseLost
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import Job, NewJob

FAILURE = (FailureKind.KILLED, "the trainer was killed")


def take(store: LeasedStore, job: Job, to: JobStatus) -> Job:
    """Request a transition with the only method that makes it."""
    if to is JobStatus.QUEUED:
        return store.requeue(job, not_before=0.0, spends_retry=False, message="again")
    return store.move(job, to, failure=FAILURE if to is JobStatus.FAILED else None)


def test_no_transition_leaves_a_terminal_state() -> None:
    assert {before for before, _ in TRANSITIONS}.isdisjoint(TERMINAL)


def test_every_state_is_connected() -> None:
    assert {after for _, after in TRANSITIONS} == set(JobStatus)
    assert {before for before, _ in TRANSITIONS} == set(JobStatus) - TERMINAL
    assert {JobStatus.QUEUED} | ACTIVE | TERMINAL == set(JobStatus)


def test_api_moves_a_job_only_from_the_queue_to_cancelled() -> None:
    by_api = {pair for pair, writer in TRANSITIONS.items() if writer is Writer.API}
    assert by_api == {(JobStatus.QUEUED, JobStatus.CANCELLED)}


def test_job_that_is_being_cancelled_only_becomes_cancelled() -> None:
    assert {after for before, after in TRANSITIONS if before is JobStatus.CANCELLING} == {JobStatus.CANCELLED}


def test_failures_that_may_be_temporary_are_retried() -> None:
    assert set(FailureKind) - FINAL_FAILURES == {FailureKind.DISK_FULL, FailureKind.KILLED, FailureKind.INTERNAL}


PATHS: dict[JobStatus, tuple[JobStatus, ...]] = {
    JobStatus.STARTING: (),
    JobStatus.RUNNING: (JobStatus.RUNNING,),
    JobStatus.FINALIZING: (JobStatus.RUNNING, JobStatus.FINALIZING),
    JobStatus.CANCELLING: (JobStatus.CANCELLING,),
    JobStatus.SUCCEEDED: (JobStatus.RUNNING, JobStatus.FINALIZING, JobStatus.SUCCEEDED),
    JobStatus.FAILED: (JobStatus.FAILED,),
    JobStatus.CANCELLED: (JobStatus.CANCELLING, JobStatus.CANCELLED),
}


@pytest.mark.parametrize("to", list(JobStatus))
@pytest.mark.parametrize("before", list(JobStatus))
def test_supervisor_can_do_what_the_table_allows_and_nothing_else(
    tmp_path: Path, migrated_path: Path, before: JobStatus, to: JobStatus
) -> None:
    engine = open_database(f"sqlite:///{shutil.copy(migrated_path, tmp_path)}")
    store, leased = JobStore(engine), LeasedStore(engine, "owner")
    job, _ = store.submit(NewJob("demo", {}, 0, 1, 0))
    if before is not JobStatus.QUEUED:
        claimed = leased.claim(job.id, [])
        assert claimed
        job = claimed
        for step in PATHS[before]:
            job = take(leased, job, step)
    assert job.status is before
    events = store.events(job.id, after=0)
    is_claim = (before, to) == (JobStatus.QUEUED, JobStatus.STARTING)
    if TRANSITIONS.get((before, to)) is Writer.SUPERVISOR and not is_claim:
        moved = take(leased, job, to)
        assert (moved.status, store.get(job.id)) == (to, moved)
        [event] = store.events(job.id, after=events[-1].seq)
        assert (event.kind, event.data["from"], event.data["to"], event.data["attempt"]) == ("status", before, to, 1)
    else:
        with pytest.raises(IllegalTransition if before in ACTIVE else LeaseLost):
            take(leased, job, to)
        assert store.get(job.id) == job
        assert store.events(job.id, after=0) == events
    engine.dispose()
