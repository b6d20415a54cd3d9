"""Calls of the store, in any order and by any caller, have the results that the transition table allows."""

import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine

from service.states import ACTIVE, TERMINAL, TRANSITIONS, FailureKind, JobStatus, Writer
from service.store.database import open_database
from service.store.errors import (
    AlreadyEnded,
    CancelRequested,
    IllegalTransition,
    LeaseLost,
    NotEnded,
    NotFound,
    NotQueued,
    StoreError,
)
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import Job, NewJob

FAILURE = (FailureKind.KILLED, "the trainer was killed")
OWNERS = ("first", "second")
ENDS = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.QUEUED})
"""Transitions that a cancel request prevents."""


@cache
def empty_database() -> bytes:
    """A migrated database without rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "service.db"
        open_database(f"sqlite:///{path}").dispose()
        return path.read_bytes()


def open_empty(folder: Path) -> Engine:
    path = folder / "service.db"
    path.write_bytes(empty_database())
    return open_database(f"sqlite:///{path}")


def take(store: LeasedStore, job: Job, to: JobStatus) -> Job:
    """Request a transition with the only method that makes it."""
    if to is JobStatus.QUEUED:
        return store.requeue(job, not_before=0.0, spends_retry=False, message="again")
    return store.move(job, to, failure=FAILURE if to is JobStatus.FAILED else None)


@dataclass
class Expected:
    """The expected state of a job."""

    job: Job
    """The job as the store returned it last."""
    owner: str | None = None
    is_cancel_requested: bool = False
    changes: list[tuple[JobStatus | None, JobStatus, int]] = field(default_factory=list)

    def becomes(self, job: Job) -> None:
        self.changes.append((self.job.status, job.status, job.attempt))
        self.job = job
        if not job.status.is_active:
            self.owner = None


class Service(RuleBasedStateMachine):
    """An API and two supervisors act at random on a real database; a model predicts the results."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.engine = open_empty(Path(self.folder.name))
        self.store = JobStore(self.engine)
        self.leased = {owner: LeasedStore(self.engine, owner) for owner in OWNERS}
        self.jobs: dict[str, Expected] = {}
        self.ended: dict[str, Job] = {}

    def teardown(self) -> None:
        self.engine.dispose()
        self.folder.cleanup()

    @initialize(target=ids)
    def submit_first(self) -> str:
        return self._submit(0)

    @precondition(lambda self: len(self.jobs) < 2)
    @rule(target=ids, priority=st.integers(-2, 2))
    def submit(self, priority: int) -> str:
        return self._submit(priority)

    def _submit(self, priority: int) -> str:
        job, is_new = self.store.submit(NewJob("demo", {}, priority, 1, 0))
        assert is_new
        self.jobs[job.id] = Expected(job, changes=[(None, JobStatus.QUEUED, 0)])
        return job.id

    @rule(job_id=ids)
    def cancel(self, job_id: str) -> None:
        if self._is_gone(job_id, self.store.request_cancel):
            return
        expected = self.jobs[job_id]
        before = expected.job
        if before.status in (JobStatus.SUCCEEDED, JobStatus.FAILED):
            with pytest.raises(AlreadyEnded):
                self.store.request_cancel(job_id)
            return
        job = self.store.request_cancel(job_id)
        if before.status is JobStatus.QUEUED:
            assert job.status is JobStatus.CANCELLED
            expected.becomes(job)
        elif before.status is JobStatus.CANCELLED:
            assert job == before
        else:
            assert (job.status, job.cancel_requested_at is not None) == (before.status, True)
            expected.job, expected.is_cancel_requested = job, True

    @rule(job_id=ids, priority=st.integers(-2, 2))
    def set_priority(self, job_id: str, priority: int) -> None:
        if job_id in self.jobs:
            expected = self.jobs[job_id]
            if expected.job.status is JobStatus.QUEUED:
                expected.job = self.store.set_priority(job_id, priority)
                assert expected.job.priority == priority
            else:
                with pytest.raises(NotQueued):
                    self.store.set_priority(job_id, priority)

    @rule(job_id=ids, owner=st.sampled_from(OWNERS))
    def claim(self, job_id: str, owner: str) -> None:
        job = self.leased[owner].claim(job_id, [])
        expected = self.jobs.get(job_id)
        if expected is None or expected.job.status is not JobStatus.QUEUED:
            assert job is None
            return
        assert job is not None
        assert (job.status, job.attempt) == (JobStatus.STARTING, expected.job.attempt + 1)
        expected.becomes(job)
        expected.owner = owner

    @rule(owner=st.sampled_from(OWNERS))
    def adopt(self, owner: str) -> None:
        adopted = {job.id: job for job in self.leased[owner].adopt_all()}
        assert set(adopted) == {job_id for job_id, expected in self.jobs.items() if expected.job.status.is_active}
        for job_id, job in adopted.items():
            self.jobs[job_id].job, self.jobs[job_id].owner = job, owner

    @rule(job_id=ids, owner=st.sampled_from(OWNERS), to=st.sampled_from(JobStatus))
    def move(self, job_id: str, owner: str, to: JobStatus) -> None:
        if job_id not in self.jobs:
            return
        expected = self.jobs[job_id]
        before = expected.job
        refused: type[StoreError] | None = None
        if expected.owner != owner:
            refused = LeaseLost
        elif not self._may(expected, to):
            refused = IllegalTransition
        elif expected.is_cancel_requested and to in ENDS:
            refused = CancelRequested
        if refused is not None:
            with pytest.raises(refused):
                take(self.leased[owner], before, to)
            return
        expected.becomes(take(self.leased[owner], before, to))
        assert expected.job.status is to

    @rule(
        job_id=ids,
        owner=st.sampled_from(OWNERS),
        choices=st.lists(st.sampled_from((0, 0, 0, 1, 2)), min_size=1, max_size=5),
    )
    def advance(self, job_id: str, owner: str, choices: list[int]) -> None:
        """Claim a job and let its owner make allowed transitions, which random calls alone rarely reach."""
        for choice in choices:
            expected = self.jobs.get(job_id)
            if expected is None or expected.job.status in TERMINAL:
                return
            if expected.job.status is JobStatus.QUEUED:
                self.claim(job_id, owner)
            else:
                assert expected.owner is not None
                allowed = [after for before, after in TRANSITIONS if before is expected.job.status]
                self.move(job_id, expected.owner, allowed[choice % len(allowed)])

    def _may(self, expected: Expected, to: JobStatus) -> bool:
        return TRANSITIONS.get((expected.job.status, to)) is Writer.SUPERVISOR

    @rule(job_id=ids, owner=st.sampled_from(OWNERS))
    def record(self, job_id: str, owner: str) -> None:
        if job_id not in self.jobs:
            return
        expected = self.jobs[job_id]
        step = expected.job.events_offset + 1
        line: dict[str, Any] = {"time": 0.0, "kind": "progress", "epoch": 0, "step": step, "data": {}}
        if expected.owner == owner:
            expected.job = self.leased[owner].record_events(expected.job, [line], step)
            assert expected.job.progress == {"epoch": 0, "step": step}
        else:
            with pytest.raises(LeaseLost):
                self.leased[owner].record_events(expected.job, [line], step)

    @rule(job_id=ids)
    def delete(self, job_id: str) -> None:
        if self._is_gone(job_id, self.store.delete):
            return
        if self.jobs[job_id].job.status in TERMINAL:
            self.store.delete(job_id)
            del self.jobs[job_id]
            self.ended.pop(job_id, None)
        else:
            with pytest.raises(NotEnded):
                self.store.delete(job_id)

    def _is_gone(self, job_id: str, call: Any) -> bool:
        if job_id in self.jobs:
            return False
        with pytest.raises(NotFound):
            call(job_id)
        return True

    @invariant()
    def the_store_contains_what_it_returned(self) -> None:
        assert self.store.page(limit=1000) == [
            expected.job for expected in sorted(self.jobs.values(), key=lambda expected: -expected.job.number)
        ]

    @invariant()
    def a_job_that_has_ended_never_changes(self) -> None:
        for job_id, expected in self.jobs.items():
            if expected.job.status in TERMINAL:
                assert self.store.get(job_id) == self.ended.setdefault(job_id, expected.job)
                assert (expected.job.lease_owner, expected.job.finished_at is not None) == (None, True)

    @invariant()
    def events_report_each_change_once_and_in_order(self) -> None:
        for job_id, expected in self.jobs.items():
            reported = [event.data for event in self.store.events(job_id, after=0) if event.kind == "status"]
            assert [(data["from"], data["to"], data["attempt"]) for data in reported] == expected.changes
            for data in reported[1:]:
                assert (data["from"], data["to"]) in TRANSITIONS

    @invariant()
    def each_attempt_was_started_once(self) -> None:
        for job_id, expected in self.jobs.items():
            numbers = [attempt.number for attempt in self.store.attempts(job_id)]
            assert numbers == list(range(1, expected.job.attempt + 1))
            starts = [after for _, after, _ in expected.changes if after is JobStatus.STARTING]
            assert len(starts) == expected.job.attempt

    @invariant()
    def slots_are_held_by_active_jobs(self) -> None:
        active = [expected for expected in self.jobs.values() if expected.job.status in ACTIVE]
        assert self.store.slots_in_use() == (len(active), 0)
        assert all(expected.owner == expected.job.lease_owner for expected in self.jobs.values())


def calls(max_examples: int) -> settings:
    return settings(max_examples=max_examples, stateful_step_count=30, suppress_health_check=[HealthCheck.too_slow])


TestService = Service.TestCase
TestService.settings = calls(25)


@pytest.mark.slow
def test_many_more_calls_have_the_results_that_the_transition_table_allows() -> None:
    run_state_machine_as_test(Service, settings=calls(200))
