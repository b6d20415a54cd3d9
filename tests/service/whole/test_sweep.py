"""Sweeps over HTTP: real trainings, their results, and their runs in MLflow."""

import copy
import time
from typing import Any

import pytest

from pipelines.run_folder.layout import RunDir
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


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_training_that_does_not_learn_is_pruned_and_leaves_a_checkpoint(service: Any, small: Document) -> None:
    document = copy.deepcopy(small)
    document["model"]["tasks"] = {"scene": document["model"]["tasks"]["scene"]}
    document["model"]["schedule"] = {"warmup_steps": 0}
    document["data"]["sources"]["shapes"]["labels"].pop(0)
    # Many epochs, so that the decision comes long before the end, however slow the machine is.
    document["trainer"] |= {"max_epochs": 30, "accumulate_grad_batches": 1}
    config = {
        "document": document, "search": {"model.optimizer.lr": {"kind": "categorical", "choices": [2e-3, 1e-9]}},
        "trials": 2, "sampler": "random", "seed": 2,
        "pruner": {"kind": "successive_halving", "min_epochs": 3, "reduction_factor": 4},
    }  # fmt: skip
    started = service.ask("POST", "/v1/sweeps", json={"config": config, "resources": {"cpus": 1}})
    assert started.status_code == 202, started.text
    deadline = time.monotonic() + 800
    while (sweep := service.ask("GET", started.headers["location"]).json())["status"] == "running":
        assert time.monotonic() < deadline, sweep
        time.sleep(0.5)
    learning, idle = sweep["trials"]
    assert [trial["params"]["model.optimizer.lr"] for trial in (learning, idle)] == [2e-3, 1e-9]
    assert (learning["state"], len(learning["reports"])) == ("complete", 30)
    assert (idle["state"], idle["value"], sweep["best"]["number"]) == ("pruned", None, 0)
    assert 3 <= len(idle["reports"]) < 30
    assert idle["message"].startswith("pruned: val/scene/mAP = ")
    assert service.job(idle["job_id"])["status"] == "cancelled"
    assert RunDir.of(service.root / "jobs" / idle["job_id"]).last_checkpoint.exists()
