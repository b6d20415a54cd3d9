"""MLflow runs of the service's jobs, in a real store in SQLite."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.run_folder.layout import RunDir
from pipelines.tracking.job_runs import JOB_TAG, JobRuns, run_of_trainer
from pipelines.tracking.mlflow_store import Store, connect


@pytest.fixture
def runs(store: Store) -> JobRuns:
    return JobRuns(store)


def test_opening_a_jobs_run_again_returns_the_same_run(runs: JobRuns, store: Store) -> None:
    run_id = runs.open("a" * 32, "job runs", "bccd")
    assert JobRuns(store).open("a" * 32, "job runs", "bccd") == run_id
    assert runs.open("b" * 32, "job runs", "bccd") != run_id
    run = connect(store).get_run(run_id)
    assert (run.info.run_name, run.info.status, run.data.tags[JOB_TAG]) == ("bccd", "RUNNING", "a" * 32)
    assert store.artifact_location is not None
    assert run.info.artifact_uri.startswith(store.artifact_location)


def test_run_can_be_closed_twice_and_keeps_its_status(runs: JobRuns, store: Store) -> None:
    run_id = runs.open("c" * 32, "job runs", "bccd")
    for _ in range(2):
        runs.close(run_id, "KILLED")
        assert connect(store).get_run(run_id).info.status == "KILLED"


@pytest.mark.parametrize("is_known", [True, False])
def test_closing_a_deleted_run_is_not_an_error(is_known: bool, runs: JobRuns, store: Store) -> None:
    run_id = runs.open("d" * 32, "job runs", "bccd") if is_known else "0" * 32
    if is_known:
        connect(store).delete_run(run_id)
    runs.close(run_id, "FINISHED")
    runs.discard(run_id)


def test_discarded_run_is_not_reused(runs: JobRuns) -> None:
    run_id = runs.open("e" * 32, "job runs", "bccd")
    runs.discard(run_id)
    assert runs.open("e" * 32, "job runs", "bccd") != run_id


def test_run_of_a_trainer_is_found_only_in_its_own_store(tmp_path: Path, store: Store) -> None:
    assert run_of_trainer(tmp_path, store) is None
    state = {"tracking_uri": store.label, "key": "k", "run_id": None}
    RunDir.of(tmp_path).tracking_state.write_text(json.dumps(state))
    assert run_of_trainer(tmp_path, store) is None
    RunDir.of(tmp_path).tracking_state.write_text(json.dumps(state | {"run_id": "abc"}))
    assert run_of_trainer(tmp_path, store) == "abc"
    assert run_of_trainer(tmp_path, Store("https://elsewhere")) is None


def test_importing_the_module_imports_neither_mlflow_nor_torch() -> None:
    code = "import sys, pipelines.tracking.job_runs; assert not {'mlflow', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
