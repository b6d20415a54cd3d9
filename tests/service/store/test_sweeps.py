"""Sweeps and their trials in the database: one submission for each key, fenced writes, and no trial twice."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from service.principal import KeyLimits, Principal
from service.scopes import Scope
from service.states import JobStatus, SweepStatus, TrialState
from service.store.errors import KeyReused, QueueLimit, Superseded, SweepEnded, SweepNotEnded, SweepNotFound
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import NewJob
from service.store.supervisor_lease import LeaseStore
from service.store.sweep_leases import LeasedSweepStore
from service.store.sweep_records import NewSweep, Sweep
from service.store.sweeps import SweepStore

TEAM = Principal("key", "team", frozenset({Scope.JOBS_WRITE}), "k1", KeyLimits(queued_jobs=1))
OTHER = Principal("key", "other", frozenset({Scope.JOBS_WRITE}), "k2")
NEW = NewSweep("s", {"trials": 3, "metric": "val/a/AP"}, 0, 1, 0)


@pytest.fixture
def sweeps(engine: Engine) -> SweepStore:
    return SweepStore(engine)


@pytest.fixture
def leased_sweeps(engine: Engine) -> LeasedSweepStore:
    return LeasedSweepStore(engine, "first")


@pytest.mark.representative
def test_same_key_starts_one_sweep(sweeps: SweepStore) -> None:
    first, is_new = sweeps.submit(NEW, "k", "hash", TEAM)
    assert is_new
    assert sweeps.submit(NEW, "k", "hash", TEAM) == (first, False)
    assert sweeps.submitted("k", "hash", TEAM) == first
    assert sweeps.submit(NEW, "k", "hash", OTHER)[1]
    with pytest.raises(KeyReused):
        sweeps.submit(NEW, "k", "other", TEAM)
    assert sweeps.submit(NEW, by=TEAM)[1]


def test_sweeps_of_other_tenants_are_not_found(sweeps: SweepStore) -> None:
    sweep, _ = sweeps.submit(NEW, by=TEAM)
    assert sweeps.get(sweep.id, "team") == sweep
    assert (sweeps.page(tenant="team"), sweeps.page(tenant="other")) == ([sweep], [])
    for call in (lambda: sweeps.get(sweep.id, "other"), lambda: sweeps.request_cancel(sweep.id, OTHER),
                 lambda: sweeps.delete(sweep.id, OTHER)):  # fmt: skip
        with pytest.raises(SweepNotFound):
            call()


def test_pages_are_newest_first(sweeps: SweepStore) -> None:
    ids = [sweeps.submit(NEW)[0].id for _ in range(3)]
    first = sweeps.page(limit=2)
    assert [sweep.id for sweep in first] == ids[:0:-1]
    assert [sweep.id for sweep in sweeps.page(before_number=first[-1].number)] == ids[:1]


def test_cancel_request_is_recorded_once_and_ended_sweeps_are_deleted(
    sweeps: SweepStore, leased_sweeps: LeasedSweepStore
) -> None:
    sweep, _ = sweeps.submit(NEW)
    cancelled = sweeps.request_cancel(sweep.id)
    assert cancelled.is_stopping
    assert sweeps.request_cancel(sweep.id) == cancelled
    with pytest.raises(SweepNotEnded, match="is running"):
        sweeps.delete(sweep.id)
    leased_sweeps.finish(sweep, SweepStatus.FAILED, "why")
    with pytest.raises(SweepEnded, match="has already ended: failed"):
        sweeps.request_cancel(sweep.id)
    sweeps.delete(sweep.id)
    assert sweeps.page() == []


def test_ended_sweep_is_kept_until_mlflow_has_its_status(sweeps: SweepStore, leased_sweeps: LeasedSweepStore) -> None:
    sweep, _ = sweeps.submit(NEW)
    leased_sweeps.set_mlflow_run(sweep.id, "run")
    leased_sweeps.finish(sweep, SweepStatus.SUCCEEDED, None)
    with pytest.raises(SweepNotEnded, match="MLflow has not been updated"):
        sweeps.delete(sweep.id)
    assert [unsettled.id for unsettled in leased_sweeps.unsettled()] == [sweep.id]
    leased_sweeps.settle(sweep.id, "FINISHED")
    assert leased_sweeps.unsettled() == []
    sweeps.delete(sweep.id)


Add = Callable[..., Any]


@pytest.fixture
def add(leased_sweeps: LeasedSweepStore, new_job: Callable[..., NewJob]) -> Add:
    def add(sweep: Sweep, number: int, by: Principal = TEAM) -> Any:
        return leased_sweeps.add_trial(sweep, number, {"lr": 0.1}, new_job(), by)

    return add


@pytest.mark.representative
def test_trial_and_its_job_are_written_together_and_only_once(
    sweeps: SweepStore, store: JobStore, leased_sweeps: LeasedSweepStore, add: Add
) -> None:
    sweep, _ = sweeps.submit(NEW, by=OTHER)
    job = add(sweep, 0, OTHER)
    (trial,) = sweeps.trials(sweep.id)
    assert (trial.job_id, trial.state, trial.params, trial.reports) == (job.id, TrialState.RUNNING, {"lr": 0.1}, ())
    assert (job.tenant, job.key_id, job.status) == ("other", "k2", JobStatus.QUEUED)
    with pytest.raises(IntegrityError):
        add(sweep, 0, OTHER)
    assert [found.id for found in store.page()] == [job.id]
    assert leased_sweeps.jobs(sweep) == {job.id: job}
    assert (store.trial(job.id), store.trial("none")) == (trial, None)


def test_no_trial_is_added_to_a_sweep_that_stops(sweeps: SweepStore, leased_sweeps: LeasedSweepStore, add: Add) -> None:
    sweep, _ = sweeps.submit(NEW)
    failing, _ = sweeps.submit(NEW)
    sweeps.request_cancel(sweep.id)
    leased_sweeps.fail(failing, "why")
    assert (add(sweep, 0), add(failing, 0), sweeps.trials(sweep.id)) == (None, None, [])


def test_queue_limit_of_the_key_holds_for_trials(sweeps: SweepStore, leased_sweeps: LeasedSweepStore, add: Add) -> None:
    sweep, _ = sweeps.submit(NEW, by=TEAM)
    by = leased_sweeps.submitter(sweep, KeyLimits(queued_jobs=1))
    assert (by.tenant, by.key_id, by.limits.queued_jobs) == ("team", "k1", 1)
    add(sweep, 0, by)
    with pytest.raises(QueueLimit):
        add(sweep, 1, by)
    assert len(sweeps.trials(sweep.id)) == 1


@pytest.mark.representative
def test_writes_of_a_supervisor_without_the_lease_are_refused(
    engine: Engine, sweeps: SweepStore, leased_sweeps: LeasedSweepStore, add: Add
) -> None:
    sweep, _ = sweeps.submit(NEW)
    add(sweep, 0)
    assert LeaseStore(engine, "second", "host").take(None, None)
    calls: list[Callable[[], Any]] = [
        lambda: add(sweep, 1),
        lambda: leased_sweeps.end_trial(sweep, 0, TrialState.FAILED),
        lambda: leased_sweeps.finish(sweep, SweepStatus.FAILED, None),
        lambda: leased_sweeps.fail(sweep, ""),
    ]
    for call in calls:
        with pytest.raises(Superseded):
            call()
    assert [trial.state for trial in sweeps.trials(sweep.id)] == [TrialState.RUNNING]


@pytest.mark.representative
def test_reports_are_copied_once_in_the_order_of_events(
    sweeps: SweepStore, leased: LeasedStore, leased_sweeps: LeasedSweepStore, add: Add
) -> None:
    sweep, _ = sweeps.submit(NEW)
    jobs = [leased.claim(add(sweep, number).id, []) for number in range(2)]

    def report(number: int, epoch: int, data: dict[str, Any]) -> None:
        job = jobs[number]
        event = {"time": time.time(), "kind": "metric", "epoch": epoch, "step": epoch, "data": data}
        jobs[number] = leased.record_events(job, [event], job.events_offset + 1)

    report(0, 0, {"val/a/AP": 0.1, "val/b/AP": 0.9})
    report(1, 0, {"val/a/AP": None})
    report(0, 0, {"gradients/norm/a": 1.0})
    for _ in range(2):
        trials = leased_sweeps.record_reports(sweep, "val/a/AP")
        assert [[(r.epoch, r.value) for r in trial.reports] for trial in trials] == [[(0, 0.1)], []]
    report(1, 1, {"val/a/AP": 1})
    report(0, 1, {"val/a/AP": 0.2})
    first, second = leased_sweeps.record_reports(sweep, "val/a/AP")
    assert [(r.epoch, r.value) for r in first.reports] == [(0, 0.1), (1, 0.2)]
    assert first.reports[0].seq < second.reports[0].seq < first.reports[1].seq
    leased_sweeps.request_pruning(sweep, 0, "worse")
    leased_sweeps.end_trial(sweep, 0, TrialState.PRUNED)
    leased_sweeps.end_trial(sweep, 0, TrialState.COMPLETE, value=1.0)
    ended = sweeps.trials(sweep.id)[0]
    assert (ended.state, ended.value, ended.message) == (TrialState.PRUNED, None, "worse")


def test_trials_that_have_ended_are_read_once_with_their_jobs(
    engine: Engine, sweeps: SweepStore, store: JobStore, leased_sweeps: LeasedSweepStore, add: Add
) -> None:
    sweep, _ = sweeps.submit(NEW)
    jobs = [add(sweep, number, OTHER) for number in range(4)]
    for job in jobs[:2]:
        store.request_cancel(job.id)
    for ended in (0, 1, 3, 2):
        assert leased_sweeps.jobs(sweep) == LeasedSweepStore(engine, "test").jobs(sweep)
        leased_sweeps.end_trial(sweep, ended, TrialState.CANCELLED)
        assert leased_sweeps.trials(sweep) == sweeps.trials(sweep.id)
        assert leased_sweeps.record_reports(sweep, "val/a/AP") == sweeps.trials(sweep.id)
    store.delete(jobs[0].id)
    assert set(leased_sweeps.jobs(sweep)) == {job.id for job in jobs}
    assert set(LeasedSweepStore(engine, "test").jobs(sweep)) == {job.id for job in jobs[1:]}


def test_deleting_a_sweep_keeps_the_jobs_of_its_trials(
    sweeps: SweepStore, store: JobStore, leased_sweeps: LeasedSweepStore, add: Add
) -> None:
    sweep, _ = sweeps.submit(NEW)
    job = add(sweep, 0)
    leased_sweeps.add_invalid_trial(sweep, 1, {"lr": 2.0}, "its document is invalid")
    leased_sweeps.finish(sweep, SweepStatus.CANCELLED, None)
    sweeps.delete(sweep.id)
    assert store.get(job.id).id == job.id
    assert store.trial(job.id) is None
