"""Rounds of the sweep runner over a real database, with plain records instead of trainings."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.run_folder.files import write_atomic
from pipelines.tracking.job_runs import JobRuns
from pipelines.tracking.mlflow_store import Store
from service.settings import Settings
from service.states import FailureKind, JobStatus, SweepStatus, TrialState
from service.store.database import open_database
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import Job
from service.store.sweep_leases import LeasedSweepStore
from service.store.sweep_records import NewSweep, Sweep, SweepTrial
from service.store.sweeps import SweepStore
from service.supervisor.mlflow_worker import MlflowWorker
from service.supervisor.sweep_runner import SweepRunner
from service.supervisor.sweep_tracking import SweepTracking

METRIC = "val/scene/mAP"
SEARCH = {"model.optimizer.lr": {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True}}


class SweepBench:
    """A database with one sweep at a time, whose jobs the test runs."""

    def __init__(self, root: Path, document: dict[str, Any], data_root: Path) -> None:
        self.settings = Settings(root=root, data_roots=(data_root,), cpus=2, gpus=0)
        self.engine = open_database(self.settings.url_of_database)
        self.jobs, self.sweeps = JobStore(self.engine), SweepStore(self.engine)
        self.leased = LeasedStore(self.engine, "test")
        self.document = {**document, "tracking": None}
        self.new_runner()

    def new_runner(self) -> None:
        """Replace the runner, as if the supervisor had been killed."""
        leased = LeasedSweepStore(self.engine, "test")
        tracking = SweepTracking(MlflowWorker(JobRuns(Store("sqlite:////dev/null/none"))), leased)
        self.runner = SweepRunner(self.settings, self.jobs, self.sweeps, leased, tracking)

    def start(self, **more: Any) -> Sweep:
        fixed = {"document": self.document, "search": SEARCH, "metric": METRIC, "direction": "maximize", "trials": 3}
        return self.sweeps.submit(NewSweep("s", {**fixed, **more}, 0, 1, 0))[0]

    def round(self, sweep: Sweep) -> list[SweepTrial]:
        """Run one round and return the trials."""
        self.runner.round()
        return self.sweeps.trials(sweep.id)

    def states(self, sweep: Sweep) -> list[str]:
        return [str(trial.state) for trial in self.round(sweep)]

    def claim(self, trial: SweepTrial) -> Job:
        job = self.leased.claim(trial.job_id or "", [])
        assert job is not None
        return self.leased.move(job, JobStatus.RUNNING)

    def report(self, job: Job, epoch: int, value: float) -> Job:
        event = {"time": time.time(), "kind": "metric", "epoch": epoch, "step": epoch, "data": {METRIC: value}}
        return self.leased.record_events(job, [event], job.events_offset + 1)

    def succeed(self, job: Job, value: float | None, **more: Any) -> None:
        result = {"summary": {}, "val": {"summary": {METRIC: value}}, **more}
        write_atomic(self.settings.run_dir(job.id) / "result.json", json.dumps(result))
        self.leased.move(self.leased.move(job, JobStatus.FINALIZING), JobStatus.SUCCEEDED)

    def fail(self, job: Job) -> None:
        self.leased.move(job, JobStatus.FAILED, failure=(FailureKind.NUMERICS, "a loss is not finite"))

    def stop(self, job: Job) -> None:
        """End an active job as the supervisor ends one with a cancel request."""
        assert self.jobs.get(job.id).cancel_requested_at is not None
        self.leased.move(self.leased.move(job, JobStatus.CANCELLING), JobStatus.CANCELLED)

    def status(self, sweep: Sweep) -> tuple[SweepStatus, str | None]:
        found = self.sweeps.get(sweep.id)
        return found.status, found.message


@pytest.fixture
def sweep_bench(tmp_path: Path, migrated_path: Path, small: dict[str, Any]) -> Iterator[SweepBench]:
    (tmp_path / "data" / "demo").mkdir(parents=True)
    shutil.copy(migrated_path, tmp_path)
    bench = SweepBench(tmp_path, small, tmp_path / "data")
    yield bench
    bench.engine.dispose()


def test_sweep_runs_its_trials_as_jobs_and_succeeds(sweep_bench: SweepBench) -> None:
    sweep = sweep_bench.start(parallel=2)
    first, second = sweep_bench.round(sweep)
    jobs = [sweep_bench.jobs.get(trial.job_id or "") for trial in (first, second)]
    assert [(job.name, job.status, job.cpus) for job in jobs] == [(f"s-{k}", JobStatus.QUEUED, 1) for k in range(2)]
    config = sweep_bench.jobs.config(jobs[0].id)
    assert config["model"]["optimizer"]["lr"] == first.params["model.optimizer.lr"]
    assert config["data"] == sweep_bench.document["data"]
    assert len(sweep_bench.round(sweep)) == 2
    sweep_bench.succeed(sweep_bench.claim(first), 0.25)
    assert sweep_bench.states(sweep) == ["complete", "running", "running"]
    for trial in sweep_bench.sweeps.trials(sweep.id)[1:]:
        sweep_bench.succeed(sweep_bench.claim(trial), 0.5)
    trials = sweep_bench.round(sweep)
    assert [trial.value for trial in trials] == [0.25, 0.5, 0.5]
    assert sweep_bench.status(sweep) == (SweepStatus.SUCCEEDED, None)
    assert len({trial.params["model.optimizer.lr"] for trial in trials}) == 3


def test_new_supervisor_continues_and_asks_no_trial_twice(sweep_bench: SweepBench) -> None:
    sweep = sweep_bench.start(parallel=2)
    before = sweep_bench.round(sweep)
    sweep_bench.new_runner()
    assert sweep_bench.round(sweep) == before
    sweep_bench.succeed(sweep_bench.claim(before[0]), 0.25)
    sweep_bench.new_runner()
    assert sweep_bench.states(sweep) == ["complete", "running", "running"]
    assert len(sweep_bench.jobs.page()) == 3


def test_suggestions_do_not_depend_on_restarts(sweep_bench: SweepBench) -> None:
    suggested = []
    for restarts in (False, True):
        sweep = sweep_bench.start()
        for value in (0.1, 0.3, 0.2):
            sweep_bench.succeed(sweep_bench.claim(sweep_bench.round(sweep)[-1]), value)
            if restarts:
                sweep_bench.new_runner()
        suggested.append([trial.params for trial in sweep_bench.round(sweep)])
    assert suggested[0] == suggested[1]


def test_failures_in_a_row_end_the_sweep_with_the_reason(sweep_bench: SweepBench) -> None:
    sweep = sweep_bench.start(trials=9, parallel=3, max_failures=2)
    trials = sweep_bench.round(sweep)
    jobs = [sweep_bench.claim(trial) for trial in trials]
    for job in jobs[:2]:
        sweep_bench.fail(job)
    sweep_bench.round(sweep)
    assert sweep_bench.states(sweep) == ["failed", "failed", "running"]
    sweep_bench.stop(jobs[2])
    assert sweep_bench.states(sweep) == ["failed", "failed", "cancelled"]
    status, message = sweep_bench.status(sweep)
    assert status is SweepStatus.FAILED
    assert message is not None
    assert message.startswith("2 trials have failed in a row; the last one, trial ")
    assert message.endswith(" has failed: a loss is not finite")


def test_cancelled_sweep_ends_after_its_jobs(sweep_bench: SweepBench) -> None:
    sweep = sweep_bench.start(parallel=2)
    trials = sweep_bench.round(sweep)
    job = sweep_bench.claim(trials[0])
    sweep_bench.sweeps.request_cancel(sweep.id)
    # The job in the queue is cancelled at once, the running one is stopped by the supervisor's loop.
    sweep_bench.round(sweep)
    assert sweep_bench.states(sweep) == ["running", "cancelled"]
    assert sweep_bench.status(sweep)[0] is SweepStatus.RUNNING
    sweep_bench.stop(job)
    assert sweep_bench.states(sweep) == ["cancelled", "cancelled"]
    assert sweep_bench.status(sweep) == (SweepStatus.CANCELLED, None)


def test_pruned_trial_is_stopped_and_its_sweep_continues(sweep_bench: SweepBench) -> None:
    pruner = {"kind": "successive_halving", "reduction_factor": 2}
    sweep = sweep_bench.start(parallel=2, pruner=pruner)
    good, bad = (sweep_bench.claim(trial) for trial in sweep_bench.round(sweep))
    good = sweep_bench.report(good, 0, 0.5)
    bad = sweep_bench.report(bad, 0, 0.4)
    trials = sweep_bench.round(sweep)
    assert [trial.state for trial in trials] == [TrialState.RUNNING, TrialState.PRUNING]
    assert trials[1].message == f"pruned: {METRIC} = 0.4 after 1 epoch is worse than others"
    assert sweep_bench.jobs.get(good.id).cancel_requested_at is None
    sweep_bench.stop(bad)
    assert sweep_bench.states(sweep) == ["running", "pruned", "running"]


def test_trial_that_succeeds_before_it_is_stopped_is_complete(sweep_bench: SweepBench) -> None:
    sweep = sweep_bench.start(parallel=2, pruner={"kind": "successive_halving", "reduction_factor": 2})
    good, bad = (sweep_bench.claim(trial) for trial in sweep_bench.round(sweep))
    sweep_bench.report(good, 0, 0.5)
    sweep_bench.succeed(sweep_bench.report(bad, 0, 0.4), 0.4)
    assert sweep_bench.states(sweep)[:2] == ["running", "complete"]


def test_trial_without_a_usable_result_has_failed(sweep_bench: SweepBench) -> None:
    sweep = sweep_bench.start(parallel=2, trials=2, constraints={"model.parameters": {"max": 10}})
    undefined, deleted = sweep_bench.round(sweep)
    sweep_bench.succeed(sweep_bench.claim(undefined), 0.5)
    sweep_bench.jobs.request_cancel(deleted.job_id or "")
    sweep_bench.jobs.delete(deleted.job_id or "")
    messages = [trial.message for trial in sweep_bench.round(sweep)]
    assert messages[0] is not None
    assert messages[0].endswith("has succeeded, but model.parameters is undefined in its result")
    assert messages[1] == "its job was deleted before its result was read"
    sweep_bench.round(sweep)
    assert sweep_bench.status(sweep)[0] is SweepStatus.FAILED


def test_invalid_document_of_a_trial_fails_it_without_a_job(sweep_bench: SweepBench) -> None:
    search = {"model.optimizer.name": {"kind": "categorical", "choices": ["sdg"]}}
    sweep = sweep_bench.start(search=search, max_failures=2)
    (first, second) = sweep_bench.round(sweep)
    assert (first.state, first.job_id) == (TrialState.FAILED, None)
    assert second.message is not None
    assert second.message.startswith("its document is invalid: model.optimizer")
    sweep_bench.round(sweep)
    sweep_bench.round(sweep)
    assert sweep_bench.status(sweep)[0] is SweepStatus.FAILED
    assert sweep_bench.jobs.page() == []


def test_sweep_waits_while_the_disk_is_almost_full(sweep_bench: SweepBench) -> None:
    sweep = sweep_bench.start()
    settings = sweep_bench.settings
    sweep_bench.settings = settings.model_copy(update={"min_free_bytes": 1 << 60})
    sweep_bench.new_runner()
    assert sweep_bench.round(sweep) == []
    status, message = sweep_bench.status(sweep)
    assert status is SweepStatus.RUNNING
    assert message is not None
    assert message.startswith("the next trial waits: ")
    sweep_bench.settings = settings
    sweep_bench.new_runner()
    assert sweep_bench.states(sweep) == ["running"]
    assert sweep_bench.status(sweep)[1] is None


def test_error_of_one_sweep_does_not_stop_others(sweep_bench: SweepBench, caplog: pytest.LogCaptureFixture) -> None:
    broken = sweep_bench.sweeps.submit(NewSweep("broken", {"search": 1}, 0, 1, 0))[0]
    sweep = sweep_bench.start()
    assert sweep_bench.states(sweep) == ["running"]
    assert f"sweep {broken.id}" in caplog.text


def test_sweep_whose_document_cannot_be_read_is_cancelled(sweep_bench: SweepBench) -> None:
    sweep = sweep_bench.sweeps.submit(NewSweep("broken", {"search": 1}, 0, 1, 0))[0]
    sweep_bench.round(sweep)
    sweep_bench.sweeps.request_cancel(sweep.id)
    sweep_bench.round(sweep)
    assert sweep_bench.status(sweep) == (SweepStatus.CANCELLED, None)


def test_sweep_whose_result_cannot_be_read_is_cancelled(sweep_bench: SweepBench) -> None:
    sweep = sweep_bench.start(parallel=2)
    unreadable, running = sweep_bench.round(sweep)
    (sweep_bench.settings.run_dir(unreadable.job_id or "") / "result.json").mkdir(parents=True)
    job = sweep_bench.leased.move(sweep_bench.claim(unreadable), JobStatus.FINALIZING)
    sweep_bench.leased.move(job, JobStatus.SUCCEEDED)
    assert sweep_bench.states(sweep) == ["running", "running"]
    assert (sweep_bench.status(sweep)[1] or "").startswith("an error delays the sweep, which tries again every second:")
    sweep_bench.sweeps.request_cancel(sweep.id)
    sweep_bench.round(sweep)
    trials = sweep_bench.round(sweep)
    assert [trial.state for trial in trials] == [TrialState.FAILED, TrialState.CANCELLED]
    assert trials[0].message is not None
    assert "has succeeded, but its result cannot be read: " in trials[0].message
    assert sweep_bench.jobs.get(running.job_id or "").status is JobStatus.CANCELLED
    assert sweep_bench.status(sweep) == (SweepStatus.CANCELLED, None)
