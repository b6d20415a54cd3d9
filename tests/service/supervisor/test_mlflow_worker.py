"""The thread that talks to MLflow, against a real store in SQLite that is slow, or away for a while."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.tracking.job_runs import JOB_TAG, JobRuns
from pipelines.tracking.mlflow_store import Store, connect
from service.supervisor.mlflow_worker import MlflowWorker


class SlowRuns(JobRuns):
    """Answers when it may."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.asked, self.may_answer = threading.Event(), threading.Event()

    def open(self, job_id: str, experiment: str, run_name: str) -> str:
        self.asked.set()
        self.may_answer.wait(30)
        return super().open(job_id, experiment, run_name)


def wait_until(is_so: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 30
    while not (answer := is_so()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return answer


def runs_of(store: Store, job_id: str) -> list[str]:
    client = connect(store)
    experiment = client.get_experiment_by_name("experiment")
    if experiment is None:
        return []
    found = client.search_runs([experiment.experiment_id], f"tags.`{JOB_TAG}` = '{job_id}'")
    return [run.info.run_id for run in found]


def test_a_run_is_opened_and_closed(tracking: Store) -> None:
    worker = MlflowWorker(JobRuns(tracking))
    worker.open("a", "experiment", "bccd")
    run_id = wait_until(lambda: worker.opened("a"))
    worker.take("a")
    assert worker.opened("a") is None
    worker.close("a", run_id, "FINISHED")
    assert wait_until(worker.take_closed) == {"a": "FINISHED"}
    assert worker.take_closed() == {}
    assert connect(tracking).get_run(run_id).info.status == "FINISHED"


def test_asking_takes_no_time_and_a_run_that_comes_too_late_is_discarded(tracking: Store) -> None:
    runs = SlowRuns(tracking)
    worker = MlflowWorker(runs)
    worker.open("late", "experiment", "bccd")
    assert runs.asked.wait(30)
    worker.withdraw("late")
    runs.may_answer.set()
    worker.open("next", "experiment", "bccd")
    wait_until(lambda: worker.opened("next"))
    wait_until(lambda: not runs_of(tracking, "late"))
    assert worker.opened("late") is None


def test_a_run_that_was_opened_and_is_not_wanted_is_discarded(tracking: Store) -> None:
    worker = MlflowWorker(JobRuns(tracking))
    worker.open("unused", "experiment", "bccd")
    wait_until(lambda: worker.opened("unused"))
    assert runs_of(tracking, "unused")
    worker.withdraw("unused")
    wait_until(lambda: not runs_of(tracking, "unused"))


def test_an_outage_is_told_once_and_everything_is_done_in_the_end(
    tracking: Store, mlflow_runs_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away = tmp_path / "away"
    away.write_text("no folder")
    run_id = JobRuns(tracking).open("b", "experiment", "bccd")
    with caplog.at_level("INFO"):
        worker = MlflowWorker(JobRuns(Store(f"sqlite:///{away}/mlflow.db", tracking.artifact_location)))
        worker.open("c", "experiment", "bccd")
        worker.close("b", run_id, "KILLED")
        wait_until(lambda: "fails" in caplog.text)
        away.unlink()
        away.symlink_to(mlflow_runs_root)
        assert wait_until(lambda: worker.opened("c"))
        assert wait_until(worker.take_closed) == {"b": "KILLED"}
    assert caplog.text.count("fails") == caplog.text.count("answers again") == 1
