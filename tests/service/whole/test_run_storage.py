"""A job whose attempt shares no disk with the service, and whose storage is away for some seconds."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from pipelines.run_folder.events import read_events
from tests.s3 import StoppableS3, unused_prefix

AWAY_S = 4.0


@pytest.mark.integration
@pytest.mark.timeout(400)
def test_job_without_a_shared_disk_survives_an_outage_of_the_storage(
    start_service: Callable[..., Any], small: dict[str, Any], demo_root: Any, stoppable_s3: StoppableS3
) -> None:
    variables = {"PYRAMIDION_RUN_STORAGE": unused_prefix(), "PYRAMIDION_STORAGE_TIMEOUT_S": "5"}
    service = start_service(demo_root.parent, 1, variables=variables)
    job = service.submit(small)
    service.wait_for(job, lambda found: found["stage"] == "training")
    stoppable_s3.stop()
    time.sleep(AWAY_S)
    assert service.job(job)["status"] == "running", service.describe(job)
    stoppable_s3.start()
    ended = service.wait(job)
    assert (ended["status"], ended["attempt"]) == ("succeeded", 1), service.describe(job)
    folder = service.root / "jobs" / job
    assert service.results(job)["summary"]
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert {event.kind for event in read_events(folder / "events.jsonl")} >= {"progress", "metric", "stage"}
    assert (folder / "attempts" / "1" / "log.txt").read_text()
    assert not (service.root / ".scratch" / "1" / job / "job.yaml").exists()
    assert service.processes(job) == []
