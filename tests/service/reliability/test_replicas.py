"""Two APIs on one database, and migrations of it while jobs run."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.states import JobStatus
from service.store.engines import parse_url
from service.store.errors import StoreUnavailable
from service.store.schema import migrate
from tests.service.reliability.cluster import SCRIPT, Cluster

pytestmark = pytest.mark.reliability


def test_job_of_one_api_is_followed_and_cancelled_at_another(
    tmp_path: Path, database_url: str, demo_root: Path, small_document: dict[str, Any]
) -> None:
    cluster = Cluster(tmp_path, database_url, data_roots=(demo_root.parent,))
    try:
        (_, first), (_, second) = cluster.start_api(), cluster.start_api()
        request = {"json": {"config": small_document}, "headers": {"Idempotency-Key": "one"}}
        job = first.post("/v1/jobs", **request).json()
        repeated = second.post("/v1/jobs", **request)
        assert repeated.json()["id"] == job["id"]
        path = f"/v1/jobs/{job['id']}"
        with second.stream("GET", f"{path}/events", headers={"Accept": "text/event-stream"}) as stream:
            lines = stream.iter_lines()
            heard = [next(line for line in lines if line.startswith("data: "))]
            assert first.post(f"{path}/cancel").status_code in (200, 202)
            heard.append(next(line for line in lines if line.startswith("data: ")))
        assert [json.loads(line.removeprefix("data: "))["data"]["to"] for line in heard] == ["queued", "cancelled"]
        assert second.get(path).json()["status"] == "cancelled"
    finally:
        cluster.close()


@pytest.mark.timeout(600)
def test_schema_is_migrated_down_and_up_while_jobs_run(cluster: Cluster) -> None:
    supervisor = cluster.start_supervisor()
    _, client = cluster.start_api()
    jobs = [cluster.submit(SCRIPT.format(seconds=6)), cluster.submit(SCRIPT.format(seconds=6))]
    cluster.until(lambda: all(cluster.store.get(job.id).status is JobStatus.RUNNING for job in jobs))
    url = parse_url(cluster.settings.url_of_database)
    migrate(url, "0003")
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "changed by another version of pyramidion" in answer.text
    with pytest.raises(StoreUnavailable, match="changed by another version"):
        cluster.store.supervisor_lease()
    migrate(url)
    if supervisor.wait(60) == 1:  # its lease was removed with the table; `serve` starts it again
        cluster.start_supervisor()
    cluster.until(lambda: client.get("/readyz").status_code == 200)
    cluster.check_each_ran_alone([*jobs, cluster.submit()])
