"""A key sees what its tenant owns, and nothing else."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from service.keys.use_cases import Keys
from service.principal import LOCAL_USER
from service.scopes import Scope
from service.settings import Settings
from service.store.api_keys import KeyStore
from service.store.audit import AuditLog
from service.store.database import open_database
from service.store.records import Job
from service.store.supervisor_lease import LeaseStore
from tests.service.run_folders import write_classified_run

Document = dict[str, Any]
WORKER = (Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.MODELS_READ, Scope.DATASETS_READ, Scope.DATASETS_WRITE)


@pytest.fixture
def key_of(settings: Settings) -> Callable[..., dict[str, str]]:
    """Create a key of a tenant, and return the headers of its requests."""
    keys = Keys(KeyStore(open_database(settings.url_of_database)))

    def key_of(tenant: str, *scopes: Scope) -> dict[str, str]:
        text = keys.create(LOCAL_USER, f"key-of-{tenant}", scopes or WORKER, tenant=tenant)[1]
        return {"Authorization": f"Bearer {text}"}

    return key_of


def requests_for_a_job(api: httpx2.Client, job_id: str) -> Iterator[tuple[str, str, Any]]:
    """Yield method, path and body of each operation on a job, changes last."""
    bodies: dict[str, Any] = {"change_priority": {"priority": 1}, "find_neighbors": {"embedding": [1]}}
    found = [
        (method, path, bodies.get(operation["operationId"]))
        for path, methods in api.get("/openapi.json").json()["paths"].items()
        for method, operation in methods.items()
        if "{job_id}" in path
    ]
    assert len(found) >= 10
    values = {"job_id": job_id, "task": "boxes", "path": "attempts/1/log.txt", "image_id": 1}
    for method, path, body in sorted(found, key=lambda one: one[0] != "get"):
        yield method, path.format(**values), body


def test_job_of_another_tenant_does_not_exist(
    api: httpx2.Client,
    key_of: Callable[..., dict[str, str]],
    document: Document,
    settings: Settings,
    leases: Any,
) -> None:
    blue, red, admin = key_of("blue"), key_of("red"), key_of("ops", Scope.ADMIN)
    job_id = api.post("/v1/jobs", json={"config": document}, headers=blue).json()["id"]
    leases.claim(job_id, [])
    (settings.run_dir(job_id) / "attempts/1").mkdir(parents=True)
    (settings.run_dir(job_id) / "attempts/1/log.txt").write_text("secret")
    before = AuditLog(open_database(settings.url_of_database)).page()
    for method, path, body in requests_for_a_job(api, job_id):
        answer = api.request(method, path, json=body, headers=red)
        nothing = api.request(method, path.replace(job_id, "0" * 12), json=body, headers=red)
        assert (answer.status_code, nothing.status_code) == (404, 404), (method, path)
        assert answer.text.replace(job_id, "") == nothing.text.replace("0" * 12, "")
    stream = {"Accept": "text/event-stream"}
    assert api.get(f"/v1/jobs/{job_id}/events", headers=red | stream).status_code == 404
    assert AuditLog(open_database(settings.url_of_database)).page() == before
    for headers in (blue, admin):
        assert api.get(f"/v1/jobs/{job_id}", headers=headers).json()["tenant"] == "blue"
        assert api.get(f"/v1/jobs/{job_id}/logs", headers=headers).text == "secret"
        assert api.get(f"/v1/jobs/{job_id}/events", headers=headers).status_code == 200


def test_job_of_another_tenant_is_not_compared(
    api: httpx2.Client, key_of: Callable[..., dict[str, str]], document: Document, settings: Settings
) -> None:
    blue, red, admin = key_of("blue"), key_of("red"), key_of("ops", Scope.ADMIN)
    ids = [api.post("/v1/jobs", json={"config": document}, headers=key).json()["id"] for key in (red, blue)]
    for job_id in ids:
        write_classified_run(settings.run_dir(job_id), "ab", "ab")
    for order in (ids, ids[::-1]):
        answer = api.get("/v1/compare", params={"jobs": ",".join(order)}, headers=red)
        nothing = api.get("/v1/compare", params={"jobs": ",".join(order).replace(ids[1], "0" * 12)}, headers=red)
        assert (answer.status_code, nothing.status_code) == (404, 404)
        assert answer.text.replace(ids[1], "") == nothing.text.replace("0" * 12, "")
    assert api.get("/v1/compare", params={"jobs": ",".join(ids)}, headers=admin).status_code == 200


def test_lists_have_the_jobs_of_the_tenant(
    api: httpx2.Client, key_of: Callable[..., dict[str, str]], document: Document, queued_job: Callable[[], Job]
) -> None:
    old = queued_job().id
    blue, red, admin, local = key_of("blue"), key_of("red"), key_of("ops", Scope.ADMIN), key_of("local")
    first, second = (
        api.post("/v1/jobs", json={"config": document}, headers=headers).json()["id"] for headers in (blue, red)
    )

    def listed(headers: dict[str, str], query: str = "") -> list[str]:
        return [job["id"] for job in api.get(f"/v1/jobs{query}", headers=headers).json()["jobs"]]

    for query in ("", "?status=queued", "?name=shapes", "?created_after=2020-01-01T00:00:00Z"):
        assert listed(blue, query) == [first]
        assert listed(red, query) == [second]
        assert listed(local, query) == [old]
        assert listed(admin, query) == [second, first, old]
    assert listed(blue, "?limit=1") == [first]
    assert api.get("/v1/jobs?limit=1", headers=blue).json()["next_cursor"] is None


def test_idempotency_keys_of_tenants_are_independent(
    api: httpx2.Client, key_of: Callable[..., dict[str, str]], document: Document
) -> None:
    blue, red, same = key_of("blue"), key_of("red"), key_of("blue")
    once = {"Idempotency-Key": "once"}
    ids = [
        api.post("/v1/jobs", json={"config": document}, headers=headers | once).json()["id"]
        for headers in (blue, red, same, red)
    ]
    assert (ids[0] == ids[2], ids[1] == ids[3], ids[0] == ids[1]) == (True, True, False)


def test_retry_by_an_admin_leaves_the_job_to_its_tenant(
    api: httpx2.Client, key_of: Callable[..., dict[str, str]], document: Document
) -> None:
    blue, admin = key_of("blue"), key_of("ops", Scope.ADMIN)
    job_id = api.post("/v1/jobs", json={"config": document}, headers=blue).json()["id"]
    api.post(f"/v1/jobs/{job_id}/cancel", headers=admin)
    again = api.post(f"/v1/jobs/{job_id}/retry", headers=admin)
    assert (again.status_code, again.json()["tenant"]) == (202, "blue")
    assert api.get(f"/v1/jobs/{again.json()['id']}", headers=blue).status_code == 200


def test_waiting_job_does_not_reveal_who_holds_the_resources(
    api: httpx2.Client,
    key_of: Callable[..., dict[str, str]],
    document: Document,
    leases: Any,
    settings: Settings,
) -> None:
    assert LeaseStore(open_database(settings.url_of_database), "tests", "another host").take(None, None)
    blue, red = key_of("blue"), key_of("red")
    body = {"config": document, "resources": {"cpus": 2}}
    holder, waiting = (api.post("/v1/jobs", json=body, headers=headers).json()["id"] for headers in (blue, red))
    leases.claim(holder, [])
    reason = api.get(f"/v1/jobs/{waiting}", headers=red).json()["waits_for"]
    assert reason == "needs 2 of 2 cpus, 0 are free; jobs of others hold 2"
    mine = api.post("/v1/jobs", json=body, headers=blue).json()["id"]
    reason = api.get(f"/v1/jobs/{mine}", headers=blue).json()["waits_for"]
    assert reason == f"1 job is ahead; needs 2 of 2 cpus, 0 are free; job {holder} holds 2"


def test_name_of_a_data_set_means_that_of_the_own_tenant(
    api: httpx2.Client, key_of: Callable[..., dict[str, str]]
) -> None:
    admin, blue = key_of("ops", Scope.ADMIN), key_of("blue")
    body = {"name": "shapes", "folder": "shapes"}
    mine, theirs = (api.post("/v1/datasets", json=body, headers=headers) for headers in (admin, blue))
    assert (mine.status_code, theirs.status_code) == (202, 202)
    url = theirs.headers["location"]
    assert mine.headers["location"] == url  # equal names and contents
    assert api.delete(url, headers=admin).status_code == 204
    assert api.get(url, headers=blue).status_code == 200
    # An administrator sees those of other tenants too, if the own one has none of this name.
    assert api.get(url, headers=admin).json()["created_by"] == "key-of-blue"


def test_newest_version_of_a_data_set_cannot_be_deleted_without_its_name(
    api: httpx2.Client, key_of: Callable[..., dict[str, str]]
) -> None:
    answer = api.delete("/v1/datasets/shapes/versions/latest", headers=key_of("blue"))
    assert (answer.status_code, "version" in answer.json()["errors"][0]["detail"]) == (422, True)
