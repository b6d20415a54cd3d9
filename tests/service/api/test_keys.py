"""Keys over REST: creating, listing and revoking them, with audit rows, for administrators only."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from service.keys.key_text import shown_prefix
from service.keys.use_cases import Keys
from service.principal import LOCAL_USER
from service.scopes import Scope
from service.settings import Settings
from service.store.api_keys import KeyStore
from service.store.database import open_database
from tests.service.api.problem_answers import is_problem
from tests.service.waiting import wait_until

Serve = Callable[[Settings], AbstractContextManager[httpx2.Client]]


def as_caller(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_key_is_created_once_readable_and_works_until_it_is_revoked(serve: Serve, settings: Settings) -> None:
    engine = open_database(settings.url_of_database)
    _, admin = Keys(KeyStore(engine)).create(LOCAL_USER, "boss", [Scope.ADMIN])
    engine.dispose()
    with serve(settings.model_copy(update={"key_cache_s": 0.1})) as api:
        api.headers.update(as_caller(admin))
        body = {
            "name": "reader",
            "scopes": ["jobs:read"],
            "tenant": "team",
            "expires_at": "2999-01-31",
            "queued_jobs": 3,
        }
        made = api.post("/v1/keys", json=body)
        assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
        new = made.json()
        text = new.pop("text")
        assert text.startswith(new["prefix"])
        assert (new["scopes"], new["tenant"], new["queued_jobs"]) == (["jobs:read"], "team", 3)
        assert new["expires_at"] == "2999-01-31T00:00:00Z"
        listed = api.get("/v1/keys")
        assert [key["name"] for key in listed.json()["keys"]] == ["boss", "reader"]
        assert listed.json()["keys"][1] == new
        assert text not in listed.text
        assert api.get("/v1/jobs", headers=as_caller(text)).status_code == 200
        for method, path in (("GET", "/v1/keys"), ("POST", "/v1/keys"), ("DELETE", f"/v1/keys/{new['id']}")):
            assert is_problem(api.request(method, path, headers=as_caller(text), json=body), 403)
        assert api.delete(f"/v1/keys/{new['id']}").status_code == 204
        wait_until(lambda: api.get("/v1/jobs", headers=as_caller(text)).status_code == 401, "the end of the key")
        assert [key["is_usable"] for key in api.get("/v1/keys").json()["keys"]] == [True, False]
        changes = api.get("/v1/audit", params={"tenant": "team"}).json()["changes"]
        assert [(change["action"], change["target"], change["actor"]) for change in changes] == [
            ("key.revoke", new["id"], "boss"),
            ("key.create", new["id"], "boss"),
        ]
        assert shown_prefix(new["id"]) == new["prefix"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": "a b"}, "/name"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["jobs:all"]}, "/scopes/0"),
        ({"tenant": ""}, "/tenant"),
        ({"expires_at": (datetime.now(UTC) - timedelta(days=1)).isoformat()}, "/expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-12:00"}, "/expires_at"),
        ({"queued_jobs": 0}, "/queued_jobs"),
        ({"text": "pyr_mine"}, "/text"),
    ],
)
def test_invalid_key_is_refused(change: dict[str, object], pointer: str, shared_api: httpx2.Client) -> None:
    refused = shared_api.post("/v1/keys", json={"name": "reader", "scopes": ["jobs:read"], **change})
    assert is_problem(refused, 422)
    assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]
    assert shared_api.get("/v1/keys").json()["keys"] == []


def test_unknown_key_is_not_found(shared_api: httpx2.Client) -> None:
    assert is_problem(shared_api.delete("/v1/keys/0123456789ab"), 404)
    assert is_problem(shared_api.delete("/v1/keys/reader"), 422)
