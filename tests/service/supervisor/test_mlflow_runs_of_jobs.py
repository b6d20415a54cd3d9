"""MLflow runs of jobs, from the claim to the final status."""

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from pipelines.tracking.job_runs import JobRuns
from pipelines.tracking.mlflow_store import Store, connect
from service.states import JobStatus
from service.supervisor import job_watcher

MakeBench = Callable[..., Any]

TRACKED = {"experiment": "jobs"}


def settled(it: Any, job: Any) -> str:
    """Return the final status that MLflow has accepted."""
    return str(it.wait_until(lambda: it.jobs.get(job.id).mlflow_status, it.supervisor.tick))


def test_run_is_created_at_the_claim_and_shared_by_every_attempt(bench: MakeBench, tracking: Store) -> None:
    it = bench(tracking)
    job = it.submit(
        f'echo $MLFLOW_RUN_ID >> ../../ids; case "$PWD" in */2) {it.SUCCEED};; *) exit 1;; esac', tracking=TRACKED
    )
    ended = it.ended(job)
    assert ended.status is JobStatus.SUCCEEDED
    assert (it.run_dir(job).path / "ids").read_text().splitlines() == [ended.mlflow_run_id] * 2
    assert settled(it, job) == "FINISHED"
    run = connect(tracking).get_run(ended.mlflow_run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "j")
    assert it.leased.unsettled() == []


def test_next_supervisor_sends_the_final_status_that_the_last_one_did_not(bench: MakeBench, tracking: Store) -> None:
    it = bench(tracking, max_attempts=1)
    job = it.submit("exit 1", tracking=TRACKED)
    ended = it.ended(job)
    assert ended.mlflow_status is None
    it.new_supervisor()
    assert settled(it, job) == "FAILED"
    assert connect(tracking).get_run(ended.mlflow_run_id).info.status == "FAILED"


def test_job_that_is_not_tracked_has_no_run(bench: MakeBench, tracking: Store) -> None:
    it = bench(tracking)
    job = it.submit(f'test -z "$MLFLOW_RUN_ID" && {it.SUCCEED}')
    assert it.ended(job).status is JobStatus.SUCCEEDED
    assert it.jobs.get(job.id).mlflow_run_id is None


@pytest.fixture
def silent() -> Any:
    """A tracking server that accepts connections and never responds."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)
        yield Store(f"http://127.0.0.1:{server.getsockname()[1]}")


def test_job_starts_even_if_mlflow_does_not_respond(
    bench: MakeBench, silent: Store, tracking: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_watcher, "MLFLOW_PATIENCE_S", 0.3)
    it = bench(silent)
    job = it.submit(f'test -z "$MLFLOW_RUN_ID" && {it.SUCCEED}', tracking=TRACKED)
    other = it.submit(it.SUCCEED)
    assert it.ended(other).status is JobStatus.SUCCEEDED
    assert it.ended(job).status is JobStatus.SUCCEEDED


def test_job_that_waits_for_its_run_can_be_cancelled(bench: MakeBench, silent: Store, tracking: Store) -> None:
    it = bench(silent)
    job = it.submit(it.SUCCEED, tracking=TRACKED)
    it.until(job, JobStatus.STARTING)
    it.jobs.request_cancel(job.id)
    it.supervisor.tick()
    assert it.jobs.get(job.id).status is JobStatus.CANCELLED
    assert not it.run_dir(job).path.exists()


def test_run_created_by_a_trainer_is_adopted(
    bench: MakeBench, tracking: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_watcher, "MLFLOW_PATIENCE_S", -1.0)
    run_id = JobRuns(tracking).open("made by the trainer", "jobs", "j")
    state = json.dumps({"tracking_uri": tracking.label, "key": "k", "run_id": run_id})
    it = bench(tracking, max_attempts=1)
    job = it.submit(f"echo '{state}' > ../../tracking.json; {it.at_term('exit 75')}", tracking=TRACKED)
    it.file(job, "ready")
    it.wait_until(lambda: it.jobs.get(job.id).mlflow_run_id == run_id, it.supervisor.tick)
    it.jobs.request_cancel(job.id)
    assert it.ended(job).status is JobStatus.CANCELLED
    assert settled(it, job) == "KILLED"
    assert connect(tracking).get_run(run_id).info.status == "KILLED"
