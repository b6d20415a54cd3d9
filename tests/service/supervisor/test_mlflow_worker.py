"""The thread that calls MLflow, with a real store in SQLite that is slow or unavailable for a while."""

import threading
from pathlib import Path

import pytest

from pipelines.tracking.job_runs import JOB_TAG, JobRuns
from pipelines.tracking.mlflow_store import Store, connect
from service.supervisor.mlflow_worker import MlflowWorker
from tests.service.waiting import TIMEOUT_S, wait_until


class SlowRuns(JobRuns):
    """Answers once `may_answer` is set."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.is_called, self.may_answer = threading.Event(), threading.Event()

    def open(self, job_id: str, experiment: str, run_name: str) -> str:
        self.is_called.set()
        self.may_answer.wait(TIMEOUT_S)
        return super().open(job_id, experiment, run_name)


def runs_of(store: Store, job_id: str) -> list[str]:
    client = connect(store)
    experiment = client.get_experiment_by_name("experiment")
    if experiment is None:
        return []
    found = client.search_runs([experiment.experiment_id], f"tags.`{JOB_TAG}` = '{job_id}'")
    return [run.info.run_id for run in found]


def test_run_is_opened_and_closed(tracking: Store) -> None:
    worker = MlflowWorker(JobRuns(tracking))
    worker.open("a", "experiment", "bccd")
    run_id = wait_until(lambda: worker.opened("a"), "the run")
    worker.take("a")
    assert worker.opened("a") is None
    worker.close("a", run_id, "FINISHED")
    assert wait_until(worker.take_closed, "the end of the run") == {"a": "FINISHED"}
    assert worker.take_closed() == {}
    assert connect(tracking).get_run(run_id).info.status == "FINISHED"


def test_request_returns_at_once_and_a_late_run_is_discarded(tracking: Store) -> None:
    runs = SlowRuns(tracking)
    worker = MlflowWorker(runs)
    worker.open("late", "experiment", "bccd")
    assert runs.is_called.wait(TIMEOUT_S)
    worker.withdraw("late")
    runs.may_answer.set()
    worker.open("next", "experiment", "bccd")
    wait_until(lambda: worker.opened("next"), "the next run")
    wait_until(lambda: not runs_of(tracking, "late"), "the end of the late run")
    assert worker.opened("late") is None


def test_opened_run_that_is_withdrawn_is_discarded(tracking: Store) -> None:
    worker = MlflowWorker(JobRuns(tracking))
    worker.open("unused", "experiment", "bccd")
    wait_until(lambda: worker.opened("unused"), "the run")
    assert runs_of(tracking, "unused")
    worker.withdraw("unused")
    wait_until(lambda: not runs_of(tracking, "unused"), "the end of the run")


def test_outage_is_logged_once_and_every_call_succeeds_in_the_end(
    tracking: Store, mlflow_runs_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away = tmp_path / "away"
    away.write_text("not a folder")
    run_id = JobRuns(tracking).open("b", "experiment", "bccd")
    with caplog.at_level("INFO"):
        worker = MlflowWorker(JobRuns(Store(f"sqlite:///{away}/mlflow.db", tracking.artifact_location)))
        worker.open("c", "experiment", "bccd")
        worker.close("b", run_id, "KILLED")
        wait_until(lambda: f"{away}/mlflow.db fails" in caplog.text, "the report of the outage")
        away.unlink()
        away.symlink_to(mlflow_runs_root)
        assert wait_until(lambda: worker.opened("c"), "the run after the outage")
        assert wait_until(worker.take_closed, "the end of the run") == {"b": "KILLED"}
    own = [record.message for record in caplog.records if str(away) in record.message]
    assert ["fails" in own[0], "answers again" in own[1], len(own)] == [True, True, 2]
