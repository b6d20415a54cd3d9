"""At most one supervisor has the lease, and one that was stopped for too long does nothing when it continues."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from service.states import JobStatus
from service.store.database import open_database
from service.store.errors import LeaseLost, Superseded
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import NewJob
from service.store.supervisor_lease import LeaseStore
from service.supervisor.lease import Lease
from tests.service.waiting import TIMEOUT_S

LEASE_S = 0.5
JOB = NewJob("demo", {}, 0, 1, 0)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path, migrated_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{shutil.copy(migrated_path, tmp_path)}"
    engine = open_database(url if request.param == "sqlite" else request.getfixturevalue("postgres_url"))
    yield engine
    engine.dispose()


MakeLease = Callable[..., Lease]


@pytest.fixture
def make(engine: Engine) -> MakeLease:
    def make(owner: str, host: str = "a", root: str = "/root", *, has_lock: bool = False, bound: bool = True) -> Lease:
        lease = Lease(LeaseStore(engine, owner, host), host, Path(root), LEASE_S, is_bound_to_host=bound)
        lease.has_lock = has_lock
        return lease

    return make


def take_when_over(lease: Lease) -> float:
    """Try until the lease is taken, and return the seconds that this took."""
    started = time.monotonic()
    while lease.try_to_take() is not None:
        assert time.monotonic() < started + TIMEOUT_S
        time.sleep(0.02)
    return time.monotonic() - started


def test_another_supervisor_takes_over_once_the_beats_have_stopped(make: MakeLease, engine: Engine) -> None:
    first, second = make("first", has_lock=True), make("second", "b", "/other", has_lock=True, bound=False)
    assert first.try_to_take() is None
    assert second.try_to_take() is not None
    deadline = time.monotonic() + 2 * LEASE_S
    while time.monotonic() < deadline:
        first.renew_if_due()
        reason = second.try_to_take()
        assert reason is not None
        assert reason.startswith("another supervisor runs the jobs: process ")
    last_valid = first.valid_until
    assert take_when_over(second) > 0
    assert time.monotonic() > last_valid, "the first one had stopped to rely on its lease before"
    with pytest.raises(Superseded):
        first.require()
    time.sleep(LEASE_S / 5)
    with pytest.raises(Superseded):
        first.renew_if_due()
    first.release()
    assert second.require() > time.monotonic(), "a release by the first one changes nothing"


def test_supervisor_of_the_same_root_takes_over_at_once_when_it_gets_the_lock(make: MakeLease) -> None:
    first, second = make("first", has_lock=True), make("second")
    assert first.try_to_take() is None
    assert second.try_to_take() is not None
    second.has_lock = True
    assert second.try_to_take() is None


def test_lock_of_the_root_proves_nothing_about_a_holder_without_it(make: MakeLease) -> None:
    stopped, holder, third = make("stopped", has_lock=True), make("holder"), make("third", has_lock=True)
    assert stopped.try_to_take() is None
    take_when_over(holder)
    assert third.try_to_take() is not None, "the lock was that of the stopped supervisor"
    assert take_when_over(third) > 0


def test_first_lease_of_a_database_needs_the_lock(make: MakeLease) -> None:
    waiting = make("second")
    assert str(waiting.try_to_take()).startswith("another supervisor holds the lock file")
    time.sleep(1.5 * LEASE_S)
    assert waiting.try_to_take() is not None, "it may be held by an earlier version, which has no lease"
    waiting.has_lock = True
    assert waiting.try_to_take() is None


def test_released_lease_is_taken_at_once(make: MakeLease) -> None:
    first, second = make("first", has_lock=True), make("second", "b", "/other", has_lock=True)
    assert first.try_to_take() is None
    first.release()
    assert second.try_to_take() is None


def test_superseded_supervisor_neither_claims_nor_changes_nor_adopts_jobs(make: MakeLease, engine: Engine) -> None:
    jobs = JobStore(engine)
    first, second = make("first", has_lock=True), make("second")
    old, new = LeasedStore(engine, "first", "a"), LeasedStore(engine, "second", "a")
    queued, running = jobs.submit(JOB)[0], jobs.submit(JOB)[0]
    assert first.try_to_take() is None
    claimed = old.claim(running.id, [])
    assert claimed is not None
    take_when_over(second)
    for call in (lambda: old.claim(queued.id, []), old.adopt_all, old.all_active):
        with pytest.raises(Superseded):
            call()
    assert [job.id for job in new.adopt_all()] == [running.id]
    with pytest.raises(LeaseLost):
        old.move(claimed, JobStatus.RUNNING)
    assert new.claim(queued.id, []) is not None


def test_no_supervisor_of_another_host_or_root_takes_over_attempts_that_it_cannot_see(
    make: MakeLease, engine: Engine
) -> None:
    jobs = JobStore(engine)
    first = make("first", has_lock=True)
    elsewhere, in_other_root = make("second", "b", has_lock=True), make("third", "a", "/other", has_lock=True)
    assert first.try_to_take() is None
    leased = LeasedStore(engine, "first", "a", "/root")
    job = leased.claim(jobs.submit(JOB)[0].id, [])
    assert job is not None
    for lease in (elsewhere, in_other_root):
        assert lease.try_to_take() is not None
    time.sleep(1.2 * LEASE_S)
    assert str(elsewhere.try_to_take()).startswith("attempts were started on host a, where only a supervisor on that")
    assert str(in_other_root.try_to_take()).startswith("attempts write to the root /root, which differs from this one")
    as_a = make("fourth", "a")
    take_when_over(as_a)
    as_a.release()
    leased.move(job, JobStatus.CANCELLING)
    leased.move(job, JobStatus.CANCELLED)
    assert elsewhere.try_to_take() is None, "no attempt is active"
