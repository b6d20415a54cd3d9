"""A key sees the models of its tenant, and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pipelines.base.errors import ConfigError, RegistryError
from pipelines.run.registered_weights import download_model
from pipelines.tracking.model_owners import claim_name, owner_of_model
from pipelines.tracking.registry import Registry
from service.keys.use_cases import Keys
from service.principal import LOCAL_USER
from service.scopes import Scope
from service.settings import Settings
from service.store.api_keys import KeyStore
from service.store.audit import AuditLog
from service.store.database import open_database

Headers = dict[str, str]
SCOPES = (Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.MODELS_READ, Scope.MODELS_PROMOTE)


@pytest.fixture(scope="module")
def models(service_registry: Registry) -> Registry:
    """A registry with a model of the tenant `blue`, one of `red`, and one from before there were tenants."""
    for name, tenant in (("of-blue", "blue"), ("of-red", "red")):
        claim_name(service_registry, name, tenant)
    service_registry.create_model("of-nobody", {})
    return service_registry


@pytest.fixture
def tracked(settings: Settings, models: Registry, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", models.store.tracking_uri)
    return settings


@pytest.fixture
def rest(tracked: Settings, serve: Callable[..., Any]) -> Any:
    with serve(tracked) as client:
        yield client


@pytest.fixture
def key_of(tracked: Settings) -> Callable[..., Headers]:
    keys = Keys(KeyStore(open_database(tracked.url_of_database)))

    def key_of(tenant: str, *scopes: Scope) -> Headers:
        text = keys.create(LOCAL_USER, f"key-of-{tenant}", scopes or SCOPES, tenant=tenant)[1]
        return {"Authorization": f"Bearer {text}"}

    return key_of


def test_lists_have_the_models_of_the_tenant(rest: httpx2.Client, key_of: Callable[..., Headers]) -> None:
    def listed(headers: Headers) -> set[str]:
        names = {model["name"] for model in rest.get("/v1/models", headers=headers).json()["models"]}
        return names & {"of-blue", "of-red", "of-nobody"}

    assert listed(key_of("blue")) == {"of-blue"}
    assert listed(key_of("local")) == {"of-nobody"}
    assert listed(key_of("ops", Scope.ADMIN)) == {"of-blue", "of-red", "of-nobody"}


def test_model_of_another_tenant_does_not_exist(rest: httpx2.Client, key_of: Callable[..., Headers]) -> None:
    red, blue = key_of("red"), key_of("blue")
    document = rest.get("/openapi.json").json()
    found = [
        (method, path)
        for path, methods in document["paths"].items()
        for method in methods
        if path.startswith("/v1/models/{name}")
    ]
    assert len(found) >= 6
    values = {"name": "of-blue", "alias": "champion", "version": 1, "number": 1, "other": 1, "path": "x"}
    bodies: dict[str, Any] = {"put": {"version": 1}, "post": {"root": "shapes"}}
    for method, path in found:
        url = path.format_map(values)
        answer = rest.request(method, url, json=bodies.get(method), headers=red)
        assert (answer.status_code, answer.json()["title"]) == (404, "Model not found"), (method, path)
        assert answer.json()["detail"] == "model 'of-blue' is not registered; GET /v1/models lists all"
    missing = rest.get("/v1/models/nowhere", headers=red).json()
    assert missing == {**answer.json(), "detail": answer.json()["detail"].replace("of-blue", "nowhere")}
    assert rest.get("/v1/models/of-blue", headers=blue).status_code == 200
    assert rest.get("/v1/models/of-blue", headers=key_of("ops", Scope.ADMIN)).status_code == 200


def test_key_without_the_scope_does_not_learn_which_models_of_others_exist(
    rest: httpx2.Client, key_of: Callable[..., Headers]
) -> None:
    jobs_only = key_of("red", Scope.JOBS_READ)
    theirs, missing = (rest.get(f"/v1/models/{name}", headers=jobs_only) for name in ("of-blue", "nowhere"))
    assert (theirs.status_code, theirs.json()) == (403, missing.json())


def test_document_cannot_name_models_of_others(
    rest: httpx2.Client, key_of: Callable[..., Headers], document: dict[str, Any]
) -> None:
    red = key_of("red")
    model = {**document["model"], "init_from": "models:/of-blue@champion"}
    theirs = {**document, "model": model, "tracking": {"register_as": "of-blue"}}
    answer = rest.post("/v1/jobs", json={"config": theirs}, headers=red)
    assert answer.status_code == 422
    assert {error["pointer"]: error["detail"] for error in answer.json()["errors"]} == {
        "/config/model/init_from": "got 'of-blue', which is not registered; GET /v1/models lists all",
        "/config/tracking/register_as": "got 'of-blue', which is used by others; choose another name",
    }
    assert rest.post("/v1/jobs?dry_run=true", json={"config": theirs}, headers=red).status_code == 422
    for name in ("of-red", "not-used-yet"):
        mine = {**document, "tracking": {"register_as": name}}
        assert rest.post("/v1/jobs", json={"config": mine}, headers=red).status_code == 202
    # Without a model's name, MLflow is not asked.
    assert rest.post("/v1/jobs", json={"config": document}, headers=red).status_code == 202


def test_trainer_checks_the_owner_again(
    models: Registry, tracked: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYRAMIDION_TENANT", "red")
    with pytest.raises(ConfigError, match="the model is not registered"):
        download_model("models:/of-blue@champion", tmp_path / "model")
    with pytest.raises(ConfigError, match="the model's aliases are"):
        download_model("models:/of-red@champion", tmp_path / "model")
    with pytest.raises(RegistryError, match="the name 'of-blue' is used by others"):
        claim_name(models, "of-blue", "red")
    claim_name(models, "of-red", "red")
    claim_name(models, "of-nobody", "local")
    owners = [owner_of_model(models, name) for name in ("of-blue", "of-red", "of-nobody", "nowhere")]
    assert owners == ["blue", "red", "local", None]


def test_attempts_to_move_an_alias_have_audit_rows(
    rest: httpx2.Client, key_of: Callable[..., Headers], tracked: Settings
) -> None:
    blue = key_of("blue")
    url = "/v1/models/of-blue/aliases/champion"
    answer = rest.put(url, json={"version": 1}, headers={**blue, "X-Request-Id": "request-1"})
    assert answer.status_code == 422  # no version exists
    [row] = [row for row in AuditLog(open_database(tracked.url_of_database)).page() if row.action == "model.promote"]
    assert (row.target, row.actor, row.tenant, row.outcome) == ("of-blue/champion", "key-of-blue", "blue", "failed")
    assert row.request_id == answer.headers["x-request-id"]
    assert "no such version" in (row.detail or "")


def test_audit_row_has_the_owner_of_the_model_that_an_administrator_changes(
    rest: httpx2.Client, key_of: Callable[..., Headers]
) -> None:
    admin = key_of("ops", Scope.ADMIN)
    rest.put("/v1/models/of-blue/aliases/champion", json={"version": 1}, headers=admin)
    [row] = rest.get("/v1/audit?tenant=blue", headers=admin).json()["changes"]
    assert (row["actor"], row["action"], row["target"]) == ("key-of-ops", "model.promote", "of-blue/champion")
