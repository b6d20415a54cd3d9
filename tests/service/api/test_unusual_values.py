"""Every field, parameter and header of every request gets unusual values, on PostgreSQL, which accepts the fewest."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pipelines.tracking.mlflow_store import connect
from pipelines.tracking.registry import Registry
from service.settings import Settings
from service.store.database import open_database
from service.store.supervisor_lease import LeaseStore
from tests.service.api.problem_answers import is_problem
from tests.service.api.servers import serving

Document = dict[str, Any]
JSON = {"Content-Type": "application/json"}
MODEL = "unusual"
STORABLE = ['"' + "a" * 20_000 + '"', str(2**63 - 1), str(-(2**63) + 1), "1e308", r'"\ud83d\ude00"', r'"\u0001\u202e"']
"""Valid JSON that a field may reject, or store."""
NOT_STORABLE = [r'"\u0000"', r'"a\ud800"', str(2**63), str(-(2**63)), "9" * 5000, "1e400", "-1e400", "NaN", "Infinity"]
NOT_STORABLE += [r'{"\u0000": 1}', r'{"\udfff": 1}', "[" * 70 + "]" * 70, '{"a":' * 70 + "1" + "}" * 70]
"""Values that no database can store, as JSON or almost JSON."""
PARAMETERS = ["%00", "%ED%A0%80", "%F0%9F%98%80", "a" * 3000, "9" * 30, "-" + "9" * 30, "1e400", "NaN", "0001-01-01"]
HEADERS = [b"\xff\x80", b"9" * 30, b"a" * 3000, b'"\xc3\x28"', b"bytes=-" + b"9" * 30]
SENT_ANYWHERE = ["authorization", "accept", "range", "if-none-match", "if-match", "x-request-id", "content-type"]


@pytest.fixture(scope="module")
def root(mlflow_runs_root: Path, service_registry: Registry) -> Path:
    """The root of a service with a registered model."""
    client = connect(service_registry.store)
    client.create_registered_model(MODEL)
    client.create_model_version(MODEL, "file:///nowhere")
    return mlflow_runs_root


@pytest.fixture
def rest(settings: Settings, postgres_url: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx2.Client]:
    """A service on PostgreSQL with a registered model, and with a supervisor that has taken the lease."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    # Nothing depends on the speed of this machine, and nothing renews the lease.
    waits = {"lease_s": 3600.0, "registry_timeout_s": 300.0, "database_timeout_s": 300.0}
    settings = settings.model_copy(update={"database_url": postgres_url, "root": root, **waits})
    assert LeaseStore(open_database(postgres_url), "tests", "another host").take(None, None)
    with serving(settings) as api:
        api.timeout = httpx2.Timeout(300)
        yield api


def bodies(document: Document) -> dict[tuple[str, str], Document]:
    """Return a valid body of each request with JSON, by method and path."""
    folder = {"name": "shapes", "folder": "missing", "sources": document["data"]["sources"]}
    resources = {"cpus": 1, "gpus": 0, "timeout_s": 9}
    export = {"to": "onnx", "precision": "fp32", "max_drop": 0.1, "nms": "outside", "name": "a", "priority": 1}
    export |= {"test": True}
    images = {"folder": "missing", "name": "a", "classes": ["a"], "threshold": 0.5, "version": 1}
    rate = {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True}
    sweep = {
        "document": {"name": "a"}, "search": {"model.optimizer.lr": rate}, "trials": 2, "name": "a", "seed": 1,
        "parallel": 1, "metric": "val/boxes/AP", "direction": "maximize", "sampler": "tpe", "max_failures": 1,
        "pruner": {"kind": "successive_halving", "min_epochs": 1}, "constraints": {"model.parameters": {"max": 1.0}},
    }  # fmt: skip
    key = {"name": "a", "scopes": ["jobs:read"], "tenant": "a", "expires_at": "2100-01-01T00:00:00Z"}
    key |= {"requests_per_minute": 1, "queued_jobs": 1, "storage_bytes": 1}
    return {
        ("post", "/v1/sweeps"): {"config": sweep, "priority": 1, "resources": resources},
        ("post", "/v1/jobs"): {"config": document, "kind": "fit", "priority": 1, "resources": resources},
        ("patch", "/v1/jobs/{job_id}"): {"priority": 1},
        ("put", "/v1/models/{name}/aliases/{alias}"): {"version": 1, "reason": "better"},
        ("post", "/v1/models/{name}/batch-predictions"): images | {"dataset": "a@b", "resources": resources},
        ("post", "/v1/models/{name}/versions/{version}/exports"): export | {"resources": resources},
        ("post", "/v1/jobs/{job_id}/results/{task}/neighbors"): {"embedding": [1.0, 0.5], "count": 1},
        ("post", "/v1/datasets"): folder,
        ("post", "/v1/keys"): key,
    }


def with_every_field_replaced(body: Document, text: str) -> Iterator[bytes]:
    """Yield the JSON text of a body once for each of its fields, with another text as the value of the field."""
    for path in _fields(body):
        changed = copy.deepcopy(body)
        place = changed
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = "THE FIELD"
        yield json.dumps(changed).replace('"THE FIELD"', text).encode()


def _fields(value: Any) -> Iterator[tuple[Any, ...]]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield (name,)
        yield from ((name, *below) for below in _fields(part))


def test_body_with_a_value_that_no_database_can_store_is_rejected(
    shared_api: httpx2.Client, document: Document
) -> None:
    with_json = {
        (method, path)
        for path, methods in shared_api.get("/openapi.json").json()["paths"].items()
        for method, operation in methods.items()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    }
    assert with_json == set(bodies(document))
    for (method, path), body in bodies(document).items():
        for text in NOT_STORABLE:
            *_, content = with_every_field_replaced(body, text)
            answer = shared_api.request(method, path, content=content, headers=JSON)
            assert is_problem(answer, 400), (method, path, content[:200], answer.text)


@pytest.mark.integration
def test_no_value_of_any_body_is_an_internal_error(rest: httpx2.Client, document: Document) -> None:
    job_id = rest.post("/v1/jobs", json={"config": document}).json()["id"]
    for (method, template), body in bodies(document).items():
        path = template.replace("{job_id}", job_id).replace("{name}", MODEL).replace("{alias}", "stable")
        path = path.replace("{version}", "1")
        for text in STORABLE + NOT_STORABLE:
            for content in with_every_field_replaced(body, text):
                answer = rest.request(method, path, content=content, headers=JSON)
                assert answer.status_code < 500, (method, path, content[:200], answer.text)


@pytest.mark.integration
def test_no_value_of_any_parameter_or_header_is_an_internal_error(rest: httpx2.Client) -> None:
    for template, methods in rest.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            parameters = operation.get("parameters", ())
            places = {one["name"]: one["in"] for one in parameters if one["in"] in ("path", "query")}
            needed = {one["name"]: "1" for one in parameters if one.get("required")}
            for name in places:
                for value in PARAMETERS:
                    given = needed | {name: value}
                    query = "&".join(f"{one}={text}" for one, text in given.items() if places[one] == "query")
                    path = template.format_map(given)
                    check(rest, operation, method, f"{path}?{query}" if query else path)
            names = {one["name"] for one in parameters if one["in"] == "header"}
            for value in HEADERS:
                for sent in [(name,) for name in names] + [SENT_ANYWHERE]:
                    headers = {name.encode(): value for name in sent}
                    check(rest, operation, method, template.format_map(needed), headers=headers)


def check(rest: httpx2.Client, operation: Document, method: str, path: str, **options: Any) -> None:
    """Send a request without a body, and check that its response is documented and no error of the server."""
    answer = rest.request(method, path, **options)
    assert answer.status_code < 500, (method, path[:200], options, answer.text)
    assert str(answer.status_code) in operation["responses"], (method, path[:200], options, answer.status_code)
