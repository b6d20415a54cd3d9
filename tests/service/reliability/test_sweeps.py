"""A supervisor that is killed at any moment of a sweep loses no trial and starts none twice."""

import random
import time
from typing import Any

import pytest

from service.states import JobStatus, SweepStatus, TrialState
from service.store.sweep_records import NewSweep
from service.store.sweeps import SweepStore
from tests.service.reliability.cluster import Cluster

pytestmark = pytest.mark.reliability

RATE = {"kind": "float", "low": 0.001, "high": 0.1, "log": True}


@pytest.mark.timeout(1800)
def test_killed_supervisor_loses_no_trial_and_starts_none_twice(
    cluster: Cluster, small: dict[str, Any], repetitions: int
) -> None:
    (cluster.settings.data_roots[0] / "demo").mkdir()
    config = {
        "document": small, "search": {"model.optimizer.lr": RATE}, "metric": "val/scene/mAP", "direction": "maximize",
        "trials": 2 * repetitions, "parallel": 2,
    }  # fmt: skip
    sweeps = SweepStore(cluster.engine)
    sweep, _ = sweeps.submit(NewSweep("s", config, 0, 1, 0))
    supervisor = cluster.start_supervisor()
    for number in range(repetitions):
        # Each life of a supervisor is long enough for some progress.
        cluster.until(lambda number=number: len(sweeps.trials(sweep.id)) > number)
        time.sleep(random.random())
        supervisor.kill()
        supervisor.wait()
        supervisor = cluster.start_supervisor()
    cluster.until(lambda: sweeps.get(sweep.id).status.is_terminal)
    assert sweeps.get(sweep.id).status is SweepStatus.SUCCEEDED
    trials = sweeps.trials(sweep.id)
    assert [(trial.number, trial.state) for trial in trials] == [
        (number, TrialState.COMPLETE) for number in range(2 * repetitions)
    ]
    jobs = cluster.store.page(limit=10 * repetitions)
    assert {job.id for job in jobs} == {trial.job_id for trial in trials}
    assert len(jobs) == len(trials)
    for job in jobs:
        folder = cluster.settings.run_dir(job.id)
        assert (job.status, job.attempt) == (JobStatus.SUCCEEDED, 1), cluster.log()
        assert (folder / "starts").read_text().split() == ["start"]
        assert not (folder / "twice").exists()
    assert all(trial.value == pytest.approx(trial.params["model.optimizer.lr"]) for trial in trials)
