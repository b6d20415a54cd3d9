"""`GET /v1/system`: what is used, and what waits."""

from collections.abc import Callable

import httpx2

from service.store.records import Job
from service.version import version


def test_system_has_slots_in_use_the_queue_the_disk_and_versions(
    api: httpx2.Client, running_job: Callable[[], Job], queued_job: Callable[[], Job]
) -> None:
    empty = api.get("/v1/system").json()
    assert (empty["jobs"]["queued"], empty["queued_since"]) == (0, None)
    running_job()
    waiting = queued_job()
    found = api.get("/v1/system").json()
    assert found["resources"] == [
        {"name": "cpus", "capacity": 2, "used": 1},
        {"name": "gpus", "capacity": 0, "used": 0},
    ]
    assert (found["jobs"]["running"], found["jobs"]["queued"]) == (1, 1)
    assert found["queued_since"] == api.get(f"/v1/jobs/{waiting.id}").json()["created_at"]
    assert found["disk"]["total_bytes"] >= found["disk"]["free_bytes"] > 0
    assert (found["version"], found["executor"]) == (version(), "local")
    assert found["packages"]["torch"]
