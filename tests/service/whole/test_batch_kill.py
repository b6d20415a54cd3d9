"""Batch predictions that are killed, cancelled and stopped by the whole service."""

import json
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.tracking.mlflow_store import connect, find_experiment, find_store
from pipelines.tracking.registry import Registry
from tests.service.conftest import SELECT
from tests.service.waiting import wait_until

REPETITIONS = int(os.environ.get("RELIABILITY_REPETITIONS", "20"))


@pytest.fixture(scope="module")
def model(service: Any, exported: list[Path]) -> str:
    """The name of a model that is registered in the service's own MLflow store."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        registry = Registry(find_store(service.root))
        client = connect(registry.store)
        run_id = client.create_run(find_experiment(client, registry.store, "tests")).info.run_id
        found = registry.register(
            exported[0], name="killed", run_id=run_id, metrics={}, select=SELECT, val_fingerprint="data"
        )
        registry.set_alias("killed", "champion", found.version)
    return "killed"


def submit(service: Any, model: str, **more: Any) -> str:
    body = {"folder": "demo/images", "batch_size": 1, "resources": {"cpus": 1}, **more}
    answer = service.ask("POST", f"/v1/models/{model}/batch-predictions", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def outputs(service: Any, job_id: str) -> dict[str, bytes]:
    run_dir = service.root / "jobs" / job_id
    names = [
        "answers.jsonl",
        "images.csv",
        *(f"predictions/{path.name}" for path in (run_dir / "predictions").iterdir()),
    ]
    return {name: (run_dir / name).read_bytes() for name in names}


def predicting(service: Any, job_id: str) -> psutil.Process | None:
    found = [process for process in service.processes(job_id) if "service.predictor.batch_process" in process.cmdline()]
    return found[0] if found else None


@pytest.mark.reliability
@pytest.mark.timeout(3600)
def test_killed_batch_predictions_end_with_the_files_of_an_undisturbed_one(service: Any, model: str) -> None:
    started = time.monotonic()
    undisturbed = submit(service, model)
    assert service.wait(undisturbed)["status"] == "succeeded", service.describe(undisturbed)
    duration_s = time.monotonic() - started
    expected = outputs(service, undisturbed)
    chance = random.Random(0)
    attempts = []
    for number in range(REPETITIONS):
        job_id = submit(service, model)
        process = wait_until(lambda job_id=job_id: predicting(service, job_id), "the attempt")
        time.sleep(chance.uniform(0, 0.9 * duration_s))
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL if number % 2 else signal.SIGTERM)
        ended = service.wait(job_id)
        assert ended["status"] == "succeeded", service.describe(job_id)
        assert outputs(service, job_id) == expected
        assert service.processes(job_id) == []
        attempts.append(ended["attempt"])
    print(f"attempts: {attempts}; one attempt takes {duration_s:.1f} s")
    assert max(attempts) <= 2


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_cancelled_batch_prediction_ends_as_cancelled_without_processes(service: Any, model: str) -> None:
    job_id = submit(service, model)
    wait_until(lambda: predicting(service, job_id), "the attempt")
    service.ask("POST", f"/v1/jobs/{job_id}/cancel")
    assert service.wait(job_id)["status"] == "cancelled"
    assert service.processes(job_id) == []


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_failed_batch_prediction_names_the_image_and_is_not_repeated(service: Any, model: str, demo_root: Path) -> None:
    folder = demo_root.parent / "damaged"
    folder.mkdir(exist_ok=True)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    ended = service.wait(submit(service, model, folder="damaged", on_error="fail"))
    assert (ended["status"], ended["failure"]["kind"], ended["attempt"]) == ("failed", "data_invalid", 1)
    assert ended["failure"]["message"].startswith("broken.jpg: ")
    skipped = submit(service, model, folder="damaged")
    assert service.wait(skipped)["status"] == "succeeded"
    assert json.dumps(service.results(skipped)["images"]) == '{"total": 1, "predicted": 0, "failed": 1, "damaged": 0}'
