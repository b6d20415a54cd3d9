"""A sweep over HTTP: two real trainings, their results, and their runs in MLflow."""

import time
from typing import Any

import pytest

from pipelines.tracking.mlflow_store import connect, store_in

Document = dict[str, Any]
METRIC = "val/scene/mAP"


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_sweep_of_two_trials_has_results_a_best_document_and_nested_runs(service: Any, small: Document) -> None:
    document = {**small, "trainer": {**small["trainer"], "max_epochs": 1}, "tracking": {"experiment": "sweeps"}}
    search = {"model.optimizer.lr": {"kind": "categorical", "choices": [1e-4, 2e-3]}}
    config = {"document": document, "search": search, "trials": 2, "parallel": 2, "sampler": "random"}
    started = service.ask("POST", "/v1/sweeps", json={"config": config, "resources": {"cpus": 1}})
    assert started.status_code == 202, started.text
    path = started.headers["location"]
    deadline = time.monotonic() + 500
    while (sweep := service.ask("GET", path).json())["status"] == "running":
        assert time.monotonic() < deadline, sweep
        time.sleep(0.5)
    assert (sweep["status"], sweep["metric"]) == ("succeeded", METRIC), sweep
    assert [trial["state"] for trial in sweep["trials"]] == ["complete", "complete"]
    for trial in sweep["trials"]:
        job = service.job(trial["job_id"])
        assert job["config"]["model"]["optimizer"]["lr"] == trial["params"]["model.optimizer.lr"]
        assert trial["value"] == service.results(job["id"])["val"]["summary"][METRIC]
        assert [report["value"] for report in trial["reports"]] == [trial["value"]]
    best = max(sweep["trials"], key=lambda trial: (trial["value"], -trial["number"]))
    assert sweep["best"]["number"] == best["number"]
    assert service.ask("POST", "/v1/jobs?dry_run=true", json={"config": sweep["best"]["document"]}).status_code == 200

    def parent() -> Any:
        while service.ask("DELETE", path).status_code == 409:  # MLflow gets the final status a little later
            assert time.monotonic() < deadline
            time.sleep(0.5)
        return client.get_run(sweep["mlflow_run_id"])

    client = connect(store_in(service.root))
    run = parent()
    assert (run.info.status, run.data.metrics[METRIC]) == ("FINISHED", sweep["best"]["value"])
    for trial in sweep["trials"]:
        tags = client.get_run(service.job(trial["job_id"])["mlflow_run_id"]).data.tags
        assert tags["mlflow.parentRunId"] == sweep["mlflow_run_id"]
        assert tags["pyramidion.trial"] == str(trial["number"])
