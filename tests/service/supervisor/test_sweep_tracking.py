"""MLflow has a run for a sweep, with those of its trials below it."""

import shutil
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from pipelines.spec.sweep import SweepSpec
from pipelines.tracking.job_runs import JobRuns
from pipelines.tracking.mlflow_store import Store
from service.principal import LOCAL_USER
from service.states import SweepStatus, TrialState
from service.store.database import open_database
from service.store.leases import LeasedStore
from service.store.records import NewJob
from service.store.sweep_leases import LeasedSweepStore
from service.store.sweep_records import NewSweep
from service.store.sweeps import SweepStore
from service.supervisor.mlflow_worker import MlflowWorker
from service.supervisor.sweep_tracking import SweepTracking
from tests.service.waiting import wait_until

SEARCH = {"lr": {"kind": "float", "low": 0.1, "high": 1.0}}
CONFIG = {
    "document": {"tracking": {"experiment": "sweeps"}}, "search": SEARCH, "trials": 1, "metric": "val/a/AP",
    "direction": "maximize",
}  # fmt: skip


def test_runs_of_trials_are_nested_below_the_run_of_their_sweep(
    tmp_path: Path, migrated_path: Path, tracking: Store
) -> None:
    engine = open_database(f"sqlite:///{shutil.copy(migrated_path, tmp_path)}")
    sweeps, leased, jobs = SweepStore(engine), LeasedSweepStore(engine, "test"), LeasedStore(engine, "test")
    runs = SweepTracking(MlflowWorker(JobRuns(tracking)), leased)
    sweep_id, spec = sweeps.submit(NewSweep("s", CONFIG, 0, 1, 0))[0].id, SweepSpec.model_validate(CONFIG)

    def current() -> Any:
        sweep = sweeps.get(sweep_id)
        if not sweep.status.is_terminal:
            runs.follow(sweep, spec, sweeps.trials(sweep_id), leased.jobs(sweep))
        runs.settle(sweeps)
        return sweeps.get(sweep_id)

    parent_id = wait_until(lambda: current().mlflow_run_id, "the run of the sweep")
    new = NewJob("t", {"name": "t"}, 0, 1, 0)
    job = leased.add_trial(current(), 0, {"lr": 0.5}, new, LOCAL_USER)
    assert job is not None
    claimed = jobs.claim(job.id, [])
    assert claimed is not None
    trial_run = JobRuns(tracking).open(job.id, "sweeps", "t")
    jobs.set_mlflow_run(claimed, trial_run)
    client = MlflowClient(tracking.tracking_uri)
    tags: Any = wait_until(
        lambda: current() and (found := client.get_run(trial_run).data.tags).get("pyramidion.trial") and found, "tags"
    )
    assert (tags["mlflow.parentRunId"], tags["pyramidion.sweep_id"]) == (parent_id, sweep_id)
    leased.end_trial(current(), 0, TrialState.COMPLETE, value=0.25)
    leased.finish(current(), SweepStatus.SUCCEEDED, None)
    wait_until(lambda: current().mlflow_status, "the final status")
    parent = client.get_run(parent_id)
    assert (parent.info.run_name, parent.info.status) == ("s", "FINISHED")
    assert (parent.data.metrics["val/a/AP"], parent.data.tags["pyramidion.best_trial"]) == (0.25, "0")
    engine.dispose()
