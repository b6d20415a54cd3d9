"""If two callers change one job at the same time, one succeeds and the other gets an error."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine

from service.states import JobStatus
from service.store.errors import AlreadyEnded, CancelRequested, NotQueued, StoreError
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import NewJob

NewJobs = Callable[..., NewJob]


def race(*acts: Callable[[], Any]) -> list[Any]:
    """Run functions concurrently and return their results; an error of the store counts as a result."""
    together = threading.Barrier(len(acts))

    def run(act: Callable[[], Any]) -> Any:
        together.wait()
        try:
            return act()
        except StoreError as error:
            return error

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


@pytest.mark.parametrize("times", [100, pytest.param(1000, marks=pytest.mark.reliability)])
def test_either_a_claim_or_a_cancel_wins(store: JobStore, leased: LeasedStore, new_job: NewJobs, times: int) -> None:
    for _ in range(times):
        job, _ = store.submit(new_job())
        claimed, requested = race(partial(leased.claim, job.id, []), partial(store.request_cancel, job.id))
        left = [event.data["to"] for event in store.events(job.id, after=0) if event.data["from"] == "queued"]
        if claimed is None:
            assert (left, requested.status) == (["cancelled"], JobStatus.CANCELLED)
            assert store.attempts(job.id) == []
        else:
            assert (left, requested.status) == (["starting"], JobStatus.STARTING)
            assert requested.cancel_requested_at is not None
        assert store.get(job.id) == requested


def test_either_an_end_or_a_cancel_wins(store: JobStore, leased: LeasedStore, new_job: NewJobs) -> None:
    for _ in range(50):
        claimed = leased.claim(store.submit(new_job())[0].id, [])
        assert claimed
        job = leased.move(leased.move(claimed, JobStatus.RUNNING), JobStatus.FINALIZING)
        ended, requested = race(partial(leased.move, job, JobStatus.SUCCEEDED), partial(store.request_cancel, job.id))
        if isinstance(ended, CancelRequested):
            assert (store.get(job.id), requested.status) == (requested, JobStatus.FINALIZING)
        else:
            assert isinstance(requested, AlreadyEnded)
            assert (store.get(job.id), ended.status) == (ended, JobStatus.SUCCEEDED)


def test_either_a_claim_or_a_new_priority_comes_first(store: JobStore, leased: LeasedStore, new_job: NewJobs) -> None:
    for _ in range(30):
        job, _ = store.submit(new_job())
        claimed, moved = race(partial(leased.claim, job.id, []), partial(store.set_priority, job.id, 9))
        if claimed is None:  # on PostgreSQL it skips a job that is being changed; the next round claims it
            claimed = leased.claim(job.id, [])
        assert claimed is not None
        assert claimed.priority == store.get(job.id).priority == (0 if isinstance(moved, NotQueued) else 9)


@pytest.mark.representative
def test_one_of_many_supervisors_claims_a_job(engine: Engine, store: JobStore, new_job: NewJobs) -> None:
    owners = [LeasedStore(engine, f"owner {number}") for number in range(8)]
    for _ in range(15):
        job, _ = store.submit(new_job())
        answers = race(*(partial(owner.claim, job.id, []) for owner in owners))
        [winner] = [answer for answer in answers if answer is not None]
        assert winner == store.get(job.id)
        assert [attempt.lease_owner for attempt in store.attempts(job.id)] == [winner.lease_owner]
