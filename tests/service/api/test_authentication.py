"""API keys over HTTP."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import create_engine
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from service.api.access import OPEN_PATHS
from service.api.authentication import Authenticate, Authenticator
from service.api.key_ring import KeyRing
from service.api.thread_pools import ThreadPools, Work
from service.keys.key_text import new_secret
from service.keys.use_cases import Keys
from service.principal import LOCAL_USER, KeyLimits
from service.scopes import Scope
from service.settings import Settings
from service.store.api_keys import KeyStore
from service.store.audit import AuditLog
from service.store.database import open_database
from service.store.records import Job
from tests.service.waiting import wait_until

Serve = Callable[[Settings], AbstractContextManager[httpx2.Client]]
Headers = dict[str, str]


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Settings with which a revoked key stops working soon."""
    return settings.model_copy(update={"key_cache_s": 0.2})


@pytest.fixture
def keys(settings: Settings) -> Keys:
    """The keys of the service, as `pyramidion keys` changes them."""
    return Keys(KeyStore(open_database(settings.url_of_database)))


@pytest.fixture
def key(keys: Keys) -> Callable[..., Headers]:
    """Create a key, and return the headers of its requests."""

    def key(*scopes: Scope, name: str = "ci", **options: Any) -> Headers:
        return bearer(keys.create(LOCAL_USER, name, scopes, **options)[1])

    return key


def ring_of(store: KeyStore, settings: Settings) -> KeyRing:
    return KeyRing(store, ThreadPools(settings)[Work.KEYS], settings.key_cache_s)


def bearer(text: str) -> Headers:
    return {"Authorization": f"Bearer {text}"}


def test_without_keys_everyone_on_the_loopback_may_do_everything(api: httpx2.Client) -> None:
    assert api.get("/v1/jobs").status_code == 200
    assert api.get("/metrics").status_code == 200
    assert api.get("/v1/jobs", headers=bearer("of another server")).status_code == 200


def test_first_key_closes_the_service_except_for_probes_and_docs(
    serve: Serve, quick: Settings, key: Callable[..., Headers]
) -> None:
    with serve(quick) as api:
        assert api.get("/v1/jobs").status_code == 200
        admin = key(Scope.ADMIN)
        assert api.get("/v1/jobs", headers=admin).status_code == 200  # at once
        wait_until(lambda: api.get("/v1/jobs").status_code == 401, "the first key")
        for path in OPEN_PATHS:
            assert api.get(path).status_code in (200, 503), path
        for path in ("/metrics", "/v1/capabilities", "/v1/catalog/heads", "/v1/jobs/x", "/nothing"):
            answer = api.get(path)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == 'Bearer realm="pyramidion"'
            assert answer.json()["status"] == 401
            assert "pyramidion keys create" in answer.json()["detail"]
        assert api.get("/metrics", headers=admin).status_code == 200


def test_setting_requires_keys_before_one_exists(serve: Serve, settings: Settings) -> None:
    with serve(settings.model_copy(update={"require_keys": True})) as api:
        assert api.get("/v1/jobs").status_code == 401
        assert api.get("/livez").status_code == 200


def test_wrong_keys_are_rejected_alike(api: httpx2.Client, keys: Keys) -> None:
    key, text = keys.create(LOCAL_USER, "ci", [Scope.ADMIN])
    same_id = f"pyr_{key.id}_{new_secret().text[-43:]}"
    details = set()
    for wrong in (new_secret().text, same_id, text[:-1], text + "x", "x"):
        answer = api.get("/v1/jobs", headers=bearer(wrong))
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
        details.add(answer.json()["detail"])
    assert len(details) == 1
    assert api.get("/v1/jobs", headers={"Authorization": f"Basic {text}"}).status_code == 401
    assert api.get("/v1/jobs", headers={"Authorization": f"bearer  {text}"}).status_code == 200


def test_key_without_the_scope_is_told_which_one_it_lacks(
    api: httpx2.Client, key: Callable[..., Headers], document: dict[str, Any]
) -> None:
    reader = key(Scope.JOBS_READ, name="reader")
    assert api.get("/v1/jobs", headers=reader).status_code == 200
    assert api.get("/v1/capabilities", headers=reader).status_code == 200
    answer = api.post("/v1/jobs", json={"config": document}, headers=reader)
    assert (answer.status_code, answer.json()["title"]) == (403, "The key lacks a scope")
    assert "'reader' does not have the scope jobs:write" in answer.json()["detail"]
    assert answer.headers["www-authenticate"] == (
        'Bearer realm="pyramidion", error="insufficient_scope", scope="jobs:write"'
    )
    assert api.get("/metrics", headers=reader).status_code == 403
    assert api.get("/v1/models", headers=reader).status_code == 403
    assert api.get("/metrics", headers=key(Scope.METRICS_READ)).status_code == 200


def test_revoked_key_stops_working_within_seconds(serve: Serve, quick: Settings, keys: Keys) -> None:
    _, text = keys.create(LOCAL_USER, "ci", [Scope.JOBS_READ])
    with serve(quick) as api, serve(quick) as replica:
        for one in (api, replica):
            assert one.get("/v1/jobs", headers=bearer(text)).status_code == 200
        keys.revoke(LOCAL_USER, "ci")
        for one in (api, replica):
            wait_until(lambda one=one: one.get("/v1/jobs", headers=bearer(text)).status_code == 401, "the revocation")
        assert "'ci' was revoked" in api.get("/v1/jobs", headers=bearer(text)).json()["detail"]
        # The last key was revoked, and the service stays closed.
        assert api.get("/v1/jobs").status_code == 401


def test_expired_key_is_rejected(api: httpx2.Client, key: Callable[..., Headers]) -> None:
    answer = api.get("/v1/jobs", headers=key(Scope.JOBS_READ, expires_at=time.time() - 1))
    assert (answer.status_code, "'ci' has expired" in answer.json()["detail"]) == (401, True)
    assert api.get("/v1/jobs", headers=key(Scope.JOBS_READ, expires_at=time.time() + 3600)).status_code == 200


def test_requests_above_the_rate_of_a_key_get_429(api: httpx2.Client, key: Callable[..., Headers]) -> None:
    slow, other = key(Scope.JOBS_READ, limits=KeyLimits(requests_per_minute=2)), key(Scope.JOBS_READ)
    answers = [api.get("/v1/jobs", headers=slow) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 30
    assert "2 requests per minute" in answers[2].json()["detail"]
    assert api.get("/v1/jobs", headers=other).status_code == 200


def test_queue_has_a_limit_for_each_key(
    api: httpx2.Client, key: Callable[..., Headers], document: dict[str, Any]
) -> None:
    few = key(Scope.JOBS_WRITE, limits=KeyLimits(queued_jobs=1))
    body = {"config": document}
    first = api.post("/v1/jobs", json=body, headers={**few, "Idempotency-Key": "1"})
    assert first.status_code == 202
    refused = api.post("/v1/jobs", json=body, headers=few)
    assert (refused.status_code, refused.json()["title"]) == (429, "Too many queued jobs")
    assert api.post("/v1/jobs", json=body, headers={**few, "Idempotency-Key": "1"}).json()["id"] == first.json()["id"]
    assert api.post("/v1/jobs", json=body, headers=key(Scope.JOBS_WRITE)).status_code == 202
    api.post(f"/v1/jobs/{first.json()['id']}/cancel", headers=few)
    assert api.post("/v1/jobs", json=body, headers=few).status_code == 202


def test_last_use_is_recorded(api: httpx2.Client, keys: Keys, key: Callable[..., Headers]) -> None:
    used, started = key(Scope.JOBS_READ), time.time()
    assert api.get("/v1/jobs", headers=used).status_code == 200
    recorded = wait_until(lambda: keys.list_keys()[0].last_used_at, "the last use")
    assert recorded >= started - 1


def test_stream_ends_when_its_key_is_revoked(
    serve: Serve,
    quick: Settings,
    keys: Keys,
    running_job: Callable[[], Job],
    record: Callable[..., Job],
) -> None:
    _, text = keys.create(LOCAL_USER, "ci", [Scope.JOBS_READ])
    job = running_job()
    headers = bearer(text) | {"Accept": "text/event-stream"}
    with serve(quick) as api, api.stream("GET", f"/v1/jobs/{job.id}/events", headers=headers) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("retry")
        keys.revoke(LOCAL_USER, "ci")
        wait_until(lambda: api.get("/v1/jobs", headers=bearer(text)).status_code == 401, "the revocation")
        record(job, [1], loss=0.123)
        received = []
        with pytest.raises(httpx2.TransportError):
            received += list(lines)
        assert not [line for line in received if "0.123" in line]


def test_requests_get_503_while_the_keys_cannot_be_read(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path / "root", gpus=0, key_cache_s=1e-6)
    settings.root.mkdir()
    engine = open_database(settings.url_of_database)
    _, text = Keys(KeyStore(engine)).create(LOCAL_USER, "ci", [Scope.JOBS_READ])
    app = Starlette(middleware=[Middleware(Authenticate, settings=settings)])
    app.state.authenticator = Authenticator(ring_of(KeyStore(engine), settings), settings)
    with TestClient(app) as client:
        assert client.get("/v1/jobs", headers=bearer(text)).status_code == 404  # authenticated
        assert client.get("/metrics").status_code == 401
        engine.dispose()
        settings.root.rename(tmp_path / "elsewhere")
        for headers in (bearer(text), {}):
            answer = client.get("/v1/jobs", headers=headers)
            assert (answer.status_code, answer.json()["title"]) == (503, "The database is unavailable")
            assert answer.headers["retry-after"]
        # The keys as they were last read are enough for metrics.
        assert client.get("/metrics", headers=bearer(text)).status_code == 404
        assert client.get("/metrics").status_code == 401


def test_guesses_cause_few_reads_of_the_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'service.db'}"
    open_database(url).dispose()
    engine = create_engine(url, echo=False)
    reads: list[float] = []

    class CountingStore(KeyStore):
        def all(self) -> Any:
            reads.append(time.monotonic())
            return super().all()

    async def guess() -> None:
        ring = ring_of(CountingStore(engine), Settings(root=tmp_path, gpus=0))
        found = await asyncio.gather(*(ring.find(new_secret().key_id) for _ in range(200)))
        assert found == [None] * 200

    asyncio.run(guess())
    assert len(reads) <= 3


def test_new_key_works_at_once(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, gpus=0, key_cache_s=1000)
    store = KeyStore(open_database(settings.url_of_database))

    async def use() -> None:
        ring = ring_of(store, settings)
        assert await ring.keys() == {}
        key, _ = Keys(store).create(LOCAL_USER, "ci", [Scope.JOBS_READ])
        assert await ring.find(key.id) == key

    asyncio.run(use())


def test_each_change_has_an_audit_row(
    api: httpx2.Client, key: Callable[..., Headers], document: dict[str, Any], settings: Settings
) -> None:
    writer = key(Scope.JOBS_WRITE, tenant="blue")
    job_id = api.post("/v1/jobs", json={"config": document}, headers=writer).json()["id"]
    api.patch(f"/v1/jobs/{job_id}", json={"priority": 3}, headers=writer)
    for _ in range(2):
        api.post(f"/v1/jobs/{job_id}/cancel", headers=writer)
    again = api.post(f"/v1/jobs/{job_id}/retry", headers=writer).json()["id"]
    api.delete(f"/v1/jobs/{job_id}", headers=writer)
    rows = AuditLog(open_database(settings.url_of_database)).page()
    assert [(row.action, row.target) for row in reversed(rows[:5])] == [
        ("job.submit", job_id), ("job.priority", job_id), ("job.cancel", job_id), ("job.retry", again),
        ("job.delete", job_id),
    ]  # fmt: skip
    assert {(row.actor, row.tenant, row.outcome) for row in rows[:5]} == {("ci", "blue", "done")}
    assert (rows[5].action, rows[5].actor) == ("key.create", "local")


def test_audit_log_is_read_by_admins_page_by_page(
    api: httpx2.Client, key: Callable[..., Headers], document: dict[str, Any]
) -> None:
    admin = key(Scope.ADMIN, name="boss", tenant="ops")
    blue, red = (key(Scope.JOBS_WRITE, name=tenant, tenant=tenant) for tenant in ("blue", "red"))
    ids = [api.post("/v1/jobs", json={"config": document}, headers=who).json()["id"] for who in (blue, red, blue)]
    seen: list[dict[str, Any]] = []
    cursor = None
    while not seen or cursor is not None:
        query = {"limit": 2} if cursor is None else {"limit": 2, "cursor": cursor}
        page = api.get("/v1/audit", params=query, headers=admin).json()
        seen += page["changes"]
        cursor = page["next_cursor"]
    jobs = [change for change in seen if change["action"] == "job.submit"]
    assert [(change["target"], change["actor"], change["tenant"]) for change in jobs] == [
        (ids[2], "blue", "blue"), (ids[1], "red", "red"), (ids[0], "blue", "blue"),
    ]  # fmt: skip
    assert len(seen) == 6  # with three keys
    assert len({change["seq"] for change in seen}) == 6
    assert all(change["request_id"] for change in jobs)
    of_red = api.get("/v1/audit?tenant=red", headers=admin).json()["changes"]
    assert [change["action"] for change in of_red] == ["job.submit", "key.create"]
    assert api.get("/v1/audit", headers=blue).status_code == 403
    assert api.get(f"/v1/audit?cursor={'x' * 8}", headers=admin).status_code == 422
