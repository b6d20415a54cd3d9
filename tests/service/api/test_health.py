"""Liveness, readiness, capabilities and metrics."""

import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from service.settings import Settings
from service.states import FailureKind, JobStatus
from service.store.database import open_database
from service.store.leases import LeasedStore
from service.store.supervisor_lease import LeaseStore
from tests.service.waiting import wait_until

Submit = Callable[..., str]


def checks(api: httpx2.Client) -> tuple[int, dict[str, bool]]:
    answer = api.get("/readyz")
    body = answer.json()
    assert body["is_ready"] == (answer.status_code == 200)
    return answer.status_code, {check["name"]: check["is_ok"] for check in body["checks"]}


def samples(api: httpx2.Client) -> dict[tuple[str, ...], float]:
    """Return all samples by name and labels."""
    families = text_string_to_metric_families(api.get("/metrics").text)
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_running_process_is_alive(shared_api: httpx2.Client) -> None:
    assert shared_api.get("/livez").json() == {"status": "alive"}


def test_service_is_ready_while_the_lease_of_a_supervisor_is_renewed(
    run_api: Any, settings: Settings, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"lease_s": 1.0})
    healthy = {"database": True, "root": True, "disk": True, "supervisor": True}
    with run_api(settings, tmp_path / "api.log") as (_, api):
        assert checks(api) == (503, {**healthy, "supervisor": False})
        supervisor = LeaseStore(open_database(settings.url_of_database), "supervisor", "another host")
        assert supervisor.take(None, None)
        started, num_healthy = time.monotonic(), 0
        while num_healthy < 5 or time.monotonic() < started + 1.5:
            renewed = time.monotonic()
            supervisor.renew(None)
            found = checks(api)
            # A busy machine may need longer than the lease lasts.
            if time.monotonic() - renewed < settings.lease_s:
                assert found == (200, healthy)
                num_healthy += 1
        wait_until(lambda: checks(api) == (503, {**healthy, "supervisor": False}), "the end of the lease")

        def is_ready_again() -> bool:
            supervisor.renew(None)
            return checks(api) == (200, healthy)

        wait_until(is_ready_again, "another renewal")
        supervisor.release()
        assert checks(api)[0] == 503


def test_supervisor_that_no_longer_holds_the_lock_of_its_root_is_not_active(
    api: httpx2.Client, settings: Settings
) -> None:
    lease = LeaseStore(open_database(settings.url_of_database), "supervisor", settings.name_of_host)
    assert lease.take(None, str(settings.root))
    holder = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    command = [sys.executable, "-c", holder, str(settings.root / "supervisor.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert checks(api)[0] == 200
        process.kill()
    assert checks(api)[0] == 503


def test_deleted_database_is_not_ready_and_accepts_no_job(
    api: httpx2.Client, settings: Settings, document: dict[str, Any]
) -> None:
    (settings.root / "service.db").unlink()
    status, results = checks(api)
    assert (status, results["database"]) == (503, False)
    answer = api.post("/v1/jobs", json={"config": document})
    assert answer.status_code == 503
    assert "was deleted" in answer.json()["detail"]
    assert answer.headers["retry-after"]


def test_missing_root_is_not_ready(api: httpx2.Client, settings: Settings, tmp_path: Path) -> None:
    settings.root.rename(tmp_path / "elsewhere")
    status, results = checks(api)
    assert (status, results["root"], results["disk"]) == (503, False, False)


def test_submission_to_a_disk_that_refuses_writes_is_503(
    run_api: Any, settings: Settings, document: dict[str, Any], tmp_path: Path
) -> None:
    with run_api(settings, tmp_path / "api.log") as (process, api):
        assert api.get("/v1/jobs").json()["jobs"] == []
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        assert checks(api)[1]["database"] is False
        answer = api.post("/v1/jobs", json={"config": document})
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json"), answer.text
        assert answer.json()["detail"].endswith("nothing was changed, send the request again later")
        assert answer.headers["retry-after"] == "5"
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert api.post("/v1/jobs", json={"config": document}).status_code == 202


def test_capabilities_match_the_settings(shared_api: httpx2.Client, shared_settings: Settings) -> None:
    found = shared_api.get("/v1/capabilities").json()
    assert (found["cpus"], found["gpus"], found["default_cpus"], found["default_gpus"]) == (2, 0, 2, 0)
    assert found["max_json_bytes"] == shared_settings.max_json_bytes


def test_jobs_and_slots_are_counted(api: httpx2.Client, submit: Submit, leases: LeasedStore) -> None:
    assert samples(api)["pyramidion_oldest_queued_seconds",] == 0
    ids = [submit(resources={"cpus": 1}) for _ in range(3)]
    leases.claim(ids[0], [])
    api.post(f"/v1/jobs/{ids[1]}/cancel")
    now = samples(api)
    counts = {status: now["pyramidion_jobs", status] for status in ("queued", "starting", "cancelled", "failed")}
    assert counts == {"queued": 1, "starting": 1, "cancelled": 1, "failed": 0}
    assert 0 < now["pyramidion_oldest_queued_seconds",] < 60
    assert (now["pyramidion_slots_used", "cpu"], now["pyramidion_slots", "cpu"]) == (1, 2)
    assert now["pyramidion_slots", "gpu"] == 0


def test_requests_are_counted_by_route_template(api: httpx2.Client, submit: Submit) -> None:
    for job_id in (submit(), submit(), "unknown"):
        api.get(f"/v1/jobs/{job_id}")
    api.get("/strange/path")
    api.request("BREW", "/livez")
    now = samples(api)
    assert now["pyramidion_http_requests_total", "POST", "/v1/jobs", "202"] == 2
    assert now["pyramidion_http_requests_total", "GET", "/v1/jobs/{job_id}", "200"] == 2
    assert now["pyramidion_http_requests_total", "GET", "/v1/jobs/{job_id}", "404"] == 1
    assert now["pyramidion_http_requests_total", "(none)", "(none)", "404"] == 1
    assert now["pyramidion_http_request_seconds_count", "GET", "/v1/jobs/{job_id}"] == 3
    assert not any("BREW" in key or "/strange/path" in key for key in now)


def test_listeners_are_counted_while_connected(api: httpx2.Client, submit: Submit) -> None:
    def listeners() -> float:
        return samples(api)["pyramidion_event_listeners",]

    with api.stream("GET", f"/v1/jobs/{submit()}/events", headers={"Accept": "text/event-stream"}) as stream:
        lines = stream.iter_lines()
        next(lines)
        assert listeners() == 1
    wait_until(lambda: listeners() == 0, "the end of the stream")


def test_failures_and_jobs_that_mlflow_does_not_know_are_counted(
    api: httpx2.Client, submit: Submit, leases: LeasedStore
) -> None:
    before = samples(api)
    assert before["pyramidion_jobs_failed", "numerics"] == before["pyramidion_unsettled_jobs",] == 0
    assert before["pyramidion_oldest_startable_seconds",] == before["pyramidion_oldest_unsettled_seconds",] == 0
    failed, _ = submit(), submit()
    job = leases.claim(failed, [])
    assert job is not None
    job = leases.set_mlflow_run(job, "run of the job")
    leases.end_attempt(job, "failed", 65)
    leases.move(job, JobStatus.FAILED, failure=(FailureKind.NUMERICS, "not finite"))
    now = samples(api)
    assert (now["pyramidion_jobs_failed", "numerics"], now["pyramidion_unsettled_jobs",]) == (1, 1)
    assert 0 < now["pyramidion_oldest_startable_seconds",] < 60
    assert 0 < now["pyramidion_oldest_unsettled_seconds",] < 60


def test_metrics_are_available_without_the_database(api: httpx2.Client, settings: Settings) -> None:
    assert samples(api)["pyramidion_database_up",] == 1
    with sqlite3.connect(settings.root / "service.db") as database:
        database.execute("ALTER TABLE jobs RENAME TO gone")
    now = samples(api)
    assert now["pyramidion_database_up",] == 0
    assert now["pyramidion_connections",] >= 1
    assert ("pyramidion_jobs", "queued") not in now
