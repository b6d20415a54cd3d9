"""Submitting, listing and reading jobs."""

import fcntl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from service.settings import Settings
from service.store.database import open_database
from service.store.leases import LeasedStore
from service.store.supervisor_lease import LeaseStore
from tests.service.api.conftest import run_to_failure

Submit = Callable[..., str]


def test_submitted_job_is_queued_and_found_at_its_location(api: httpx2.Client, document: dict[str, Any]) -> None:
    answer = api.post("/v1/jobs", json={"config": document, "priority": 3})
    assert answer.status_code == 202
    job = answer.json()
    assert (job["status"], job["name"], job["priority"], job["config"]) == ("queued", "shapes", 3, document)
    assert job["resources"] == {"cpus": 2, "gpus": 0, "gpu_type": None, "nodes": 1, "timeout_s": None}
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert api.get(answer.headers["location"]).json() == job


def test_job_gets_the_requested_resources(api: httpx2.Client, submit: Submit) -> None:
    job_id = submit(resources={"cpus": 1, "timeout_s": 60})
    assert api.get(f"/v1/jobs/{job_id}").json()["resources"] == {
        "cpus": 1,
        "gpus": 0,
        "gpu_type": None,
        "nodes": 1,
        "timeout_s": 60.0,
    }


def test_request_beyond_the_capacity_is_rejected_with_the_capacity(
    api: httpx2.Client, document: dict[str, Any]
) -> None:
    answer = api.post("/v1/jobs", json={"config": document, "resources": {"cpus": 3, "gpus": 1}})
    assert answer.status_code == 422
    assert {error["pointer"]: error["detail"] for error in answer.json()["errors"]} == {
        "/resources/cpus": "got 3, but this server has 2 for all jobs together, so the job would wait forever; "
        "request at most 2",
        "/resources/gpus": "got 1, but this server has 0 for all jobs together, so the job would wait forever; "
        "request at most 0",
    }


def test_requests_with_the_same_key_and_body_create_one_job(api: httpx2.Client, document: dict[str, Any]) -> None:
    headers = {"Idempotency-Key": "once"}
    first = api.post("/v1/jobs", json={"priority": 1, "config": document}, headers=headers)
    # The order of keys does not matter.
    body = {"config": dict(reversed(document.items())), "priority": 1}
    second = api.post("/v1/jobs", json=body, headers=headers)
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json() == first.json()
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert second.headers["location"] == first.headers["location"]


def test_same_key_with_another_body_is_rejected(api: httpx2.Client, document: dict[str, Any]) -> None:
    headers = {"Idempotency-Key": "once"}
    assert api.post("/v1/jobs", json={"config": document}, headers=headers).status_code == 202
    answer = api.post("/v1/jobs", json={"config": document, "priority": 1}, headers=headers)
    assert answer.status_code == 422
    assert "'once' was used for another request" in answer.json()["detail"]
    assert len(api.get("/v1/jobs").json()["jobs"]) == 1


def test_fifty_concurrent_submissions_with_one_key_create_one_job(api: httpx2.Client, document: dict[str, Any]) -> None:
    def submit(_: int) -> tuple[int, str]:
        answer = api.post("/v1/jobs", json={"config": document}, headers={"Idempotency-Key": "race"})
        return answer.status_code, answer.json()["id"]

    with ThreadPoolExecutor(10) as threads:
        answers = set(threads.map(submit, range(50)))
    assert len(answers) == 1
    assert len(api.get("/v1/jobs").json()["jobs"]) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
def test_key_has_1_to_255_printable_characters(api: httpx2.Client, document: dict[str, Any], key: str) -> None:
    answer = api.post("/v1/jobs", json={"config": document}, headers={"Idempotency-Key": key})
    assert answer.status_code == 422
    assert "idempotency-key" in answer.text.lower()


def test_pages_have_no_gaps(api: httpx2.Client, submit: Submit) -> None:
    ids = [submit() for _ in range(5)]
    seen, url = [], "/v1/jobs?limit=2&status=queued&status=running"
    while True:
        answer = api.get(url)
        seen += [job["id"] for job in answer.json()["jobs"]]
        if answer.json()["next_cursor"] is None:
            assert "link" not in answer.headers
            break
        url = answer.links["next"]["url"]
        assert url.count("status=") == 2
    assert seen == ids[::-1]


def test_page_is_filtered_by_status_name_and_time(api: httpx2.Client, submit: Submit, document: dict[str, Any]) -> None:
    cancelled, queued = submit(), submit()
    api.post(f"/v1/jobs/{cancelled}/cancel")

    def found(**filters: Any) -> list[str]:
        return [job["id"] for job in api.get("/v1/jobs", params=filters).json()["jobs"]]

    assert found(status="cancelled") == [cancelled]
    assert found(status=["cancelled", "queued"]) == [queued, cancelled]
    assert found(status="running") == []
    assert found(kind="fit", status="queued") == [queued]
    assert found(name="shapes") == [queued, cancelled]
    assert found(name="other") == []
    created_at = api.get(f"/v1/jobs/{cancelled}").json()["created_at"]
    assert found(created_after=created_at) == [queued]
    assert found(created_before=created_at) == []


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "status=done", "kind=dance", "cursor=x", "created_after=noon"]
)
def test_invalid_query_is_rejected(api: httpx2.Client, query: str) -> None:
    answer = api.get(f"/v1/jobs?{query}")
    assert answer.status_code == 422
    assert query.partition("=")[0] in answer.text


def test_request_for_an_unchanged_job_returns_304(api: httpx2.Client, submit: Submit) -> None:
    url = f"/v1/jobs/{submit()}"
    tag = api.get(url).headers["etag"]
    again = api.get(url, headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    api.patch(url, json={"priority": 7})
    assert api.get(url, headers={"If-None-Match": tag}).status_code == 200


def test_unknown_job_is_404_on_every_route(api: httpx2.Client) -> None:
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("GET", "/results"),
        ("GET", "/predictions/boxes"),
        ("GET", "/artifacts"),
        ("GET", "/artifacts/job.yaml"),
    ):
        body = {"json": {"priority": 1}} if method == "PATCH" else {}
        answer = api.request(method, f"/v1/jobs/unknown{path}", **body)
        assert (answer.status_code, answer.json()["title"]) == (404, "Job not found"), path


def test_queued_job_reports_a_missing_supervisor(api: httpx2.Client, submit: Submit) -> None:
    waits_for = api.get(f"/v1/jobs/{submit()}").json()["waits_for"]
    assert waits_for.startswith("no supervisor is running")


def test_queued_job_explains_why_it_waits(
    api: httpx2.Client, submit: Submit, leases: LeasedStore, settings: Settings
) -> None:
    def waits_for(job_id: str) -> str | None:
        return api.get(f"/v1/jobs/{job_id}").json()["waits_for"]

    assert LeaseStore(open_database(settings.url_of_database), "tests", "another host").take(None, None)
    first = submit()
    assert waits_for(first) == "it starts next"
    job = leases.claim(first, [])
    assert job is not None
    assert waits_for(first) is None
    second, third = submit(), submit()
    assert waits_for(second) == f"needs 2 of 2 cpus, 0 are free; job {first} holds 2"
    assert waits_for(third) == f"1 job is ahead; needs 2 of 2 cpus, 0 are free; job {first} holds 2"
    leases.requeue(job, not_before=time.time() + 60, spends_retry=True, message="killed")
    assert str(waits_for(first)).startswith("attempt 1 failed; the next one starts at ")


def test_checking_for_a_supervisor_does_not_take_its_lock(api: httpx2.Client, settings: Settings) -> None:
    (settings.root / "supervisor.lock").touch()
    assert api.get("/readyz").json()["checks"][3]["is_ok"] is False
    with (settings.root / "supervisor.lock").open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_failed_job_has_its_reason_and_the_tail_of_its_log(
    api: httpx2.Client, submit: Submit, leases: LeasedStore, settings: Settings
) -> None:
    job_id = submit()
    log = settings.run_dir(job_id) / "attempts" / "1" / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_bytes(
        b"".join(b"line %d\n" % number for number in range(5000)) + b"old\r\x1b[31mhalf\x1b[0m a \xff byte\n"
    )
    run_to_failure(leases, job_id)
    job = api.get(f"/v1/jobs/{job_id}").json()
    assert (job["status"], job["waits_for"]) == ("failed", None)
    assert job["failure"]["kind"] == "numerics"
    assert job["failure"]["message"] == "the loss boxes/box is not finite"
    assert job["failure"]["advice"].startswith("Lower the learning rate")
    assert job["failure"]["log_tail"] == [
        *(f"line {n}" for n in range(4981, 5000)),
        "half a \N{REPLACEMENT CHARACTER} byte",
    ]
    (attempt,) = job["attempts"]
    assert (attempt["number"], attempt["outcome"], attempt["exit_code"]) == (1, "failed", 65)


def test_progress_is_the_latest_report_of_the_trainer(api: httpx2.Client, submit: Submit, leases: LeasedStore) -> None:
    job_id = submit()
    job = leases.claim(job_id, [])
    assert job is not None
    data = {"losses": {"train/total": 1.5}, "lr": 0.1, "left_s": 3.0, "batch": 1, "batches": 2, "max_epochs": 4}
    event = {"time": 1.0, "kind": "progress", "epoch": 1, "step": 9, "data": data}
    leases.record_events(job, [event], 100)
    progress = api.get(f"/v1/jobs/{job_id}").json()["progress"]
    of_other_kinds = dict.fromkeys(("images_per_s", "done", "total", "unit", "per_s"))
    assert progress == {"epoch": 1, "step": 9, **of_other_kinds, **data}
