"""Submitting, listing, reading jobs, and acting on them."""

from collections.abc import Callable
from typing import Any

import httpx2

from service.store.jobs import JobStore
from service.store.leases import LeasedStore


def test_a_submitted_job_is_queued_and_read_where_location_says(api: httpx2.Client, document: dict[str, Any]) -> None:
    answer = api.post("/v1/jobs", json={"config": document, "priority": 3})
    assert answer.status_code == 202
    job = answer.json()
    assert (job["status"], job["name"], job["priority"], job["config"]) == ("queued", "shapes", 3, document)
    assert job["resources"] == {"cpus": 2, "gpus": 0, "timeout_s": None}
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert api.get(answer.headers["location"]).json() == job
