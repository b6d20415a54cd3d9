"""A cancel at any moment either leaves the job `cancelled` without processes, or reports that it had ended."""

import random
import time
from collections import Counter
from typing import Any

import pytest

Document = dict[str, Any]

WITHIN_S = 60.0
"""Much longer than the grace period, after which an attempt is killed."""

STAGES = ("validating_data", "training", "evaluating", "registering")


@pytest.fixture(scope="module")
def document(small: Document) -> Document:
    """A tracked job, so that it can be cancelled during its registration too."""
    return {**small, "tracking": {"experiment": "cancelled", "register_as": "cancelled"}}


def cancel(service: Any, job: str) -> str:
    """Cancel a job, check that its end matches the response, and return its state."""
    requested = time.monotonic()
    answer = service.ask("POST", f"/v1/jobs/{job}/cancel")
    assert answer.status_code in (200, 202, 409), answer.text
    ended = service.wait(job)
    took_s = time.monotonic() - requested
    terminal = [state for state in service.statuses(job) if state in ("succeeded", "failed", "cancelled")]
    assert terminal == [ended["status"]]
    if answer.status_code == 409:
        assert ended["status"] == "succeeded", service.describe(job)
    else:
        assert ended["status"] == "cancelled", service.describe(job)
        assert took_s < WITHIN_S, service.describe(job)
    assert service.processes(job) == []
    return str(ended["status"])


def cancel_at_random(service: Any, document: Document, times: int) -> list[str]:
    # Moments within the time of such a run: some jobs are cancelled in the queue, and some requests are too late. No
    # run ends within the first second, which its imports alone take.
    moments = [random.random(), *(random.random() * 12 for _ in range(times - 1))]
    outcomes = []
    for moment in moments:
        job = service.submit(document)
        deadline = time.monotonic() + moment
        while time.monotonic() < deadline and service.job(job)["status"] != "succeeded":
            time.sleep(0.05)
        outcomes.append(cancel(service, job))
    print(Counter(outcomes))
    return outcomes


@pytest.mark.timeout(400)
def test_two_cancelled_jobs(service: Any, document: Document) -> None:
    assert "cancelled" in cancel_at_random(service, document, 2)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_fifty_cancelled_jobs(service: Any, document: Document) -> None:
    assert cancel_at_random(service, document, 50).count("cancelled") >= 25


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("stage", STAGES)
def test_job_can_be_cancelled_in_each_stage(service: Any, document: Document, stage: str) -> None:
    job = service.submit(document)
    service.wait_for(job, lambda job: job["stage"] == stage)
    cancel(service, job)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_cancelling_stops_both_processes_of_a_job(service: Any, small: Document) -> None:
    job = service.submit({**small, "trainer": {**small["trainer"], "max_epochs": 50, "devices": 2}})
    service.wait_for(job, lambda found: found["progress"] is not None)
    assert len(service.processes(job)) == 3  # the shim and two ranks
    assert cancel(service, job) == "cancelled"


def test_waiting_job_never_starts_after_its_cancellation(service: Any, small: Document) -> None:
    holder = service.submit(small, resources={"cpus": 2})
    waiting = service.submit(small, resources={"cpus": 2})
    answer = service.ask("POST", f"/v1/jobs/{waiting}/cancel")
    assert answer.json()["status"] == "cancelled"
    assert service.ask("POST", f"/v1/jobs/{waiting}/cancel").status_code == 200
    cancel(service, holder)
    assert service.job(waiting)["attempts"] == []
    assert service.statuses(waiting) == ["queued", "cancelled"]
