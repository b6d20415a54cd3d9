"""Versions and aliases of registered models over REST."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry
from service.settings import Settings
from service.store.database import open_database
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import NewJob
from tests.service.api.conftest import serving
from tests.service.api.problem_answers import is_problem


@pytest.fixture(scope="module")
def service(mlflow_runs_root: Path) -> Settings:
    return Settings(root=mlflow_runs_root)


@pytest.fixture(scope="module")
def rest(service: Settings) -> Iterator[httpx2.Client]:
    """A client of one service for all tests here; its predictor never starts."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        with serving(service) as client:
            yield client


def test_models_are_listed_with_their_lineage(
    rest: httpx2.Client, service: Settings, shapes: list[ModelVersion], service_registry: Registry
) -> None:
    name = shapes[0].name
    engine = open_database(service.url_of_database)
    job, _ = JobStore(engine).submit(NewJob(name="shapes", config={}, priority=0, cpus=1, gpus=0))
    leased = LeasedStore(engine, "tests")
    claimed = leased.claim(job.id, [])
    assert claimed is not None
    leased.set_mlflow_run(claimed, str(shapes[1].run_id))
    engine.dispose()
    service_registry.set_alias(name, "listed", 1)
    listed = {model["name"]: model for model in rest.get("/v1/models").json()["models"]}
    assert list(listed) == sorted(listed)
    assert (listed[name]["latest_version"], listed[name]["aliases"]["listed"]) == (2, 1)
    model = rest.get(f"/v1/models/{name}").json()
    assert model["aliases"] == listed[name]["aliases"]
    assert [(version["version"], version["job_id"]) for version in model["versions"]] == [(2, job.id), (1, None)]
    first = model["versions"][1]
    assert "listed" in first["aliases"]
    assert (first["run_id"], first["select"]) == (shapes[0].run_id, "max val/shapes/AP50")
    assert (first["val_metrics"], first["val_fingerprint"]) == ({"val/shapes/AP50": 0.5}, "data 1")
    assert is_problem(rest.get("/v1/models/unknown"), 404)


def test_changing_an_alias_requires_its_current_version(rest: httpx2.Client, shapes: list[ModelVersion]) -> None:
    path = f"/v1/models/{shapes[0].name}/aliases/stage"
    assert is_problem(rest.get(path), 404)
    assert is_problem(rest.put(path, json={"version": 1}, headers={"If-Match": '"1"'}), 412)
    made = rest.put(path, json={"version": 1}, headers={"If-None-Match": "*"})
    assert (made.status_code, made.json()["version"], made.headers["etag"]) == (201, 1, '"1"')
    assert is_problem(rest.put(path, json={"version": 2}, headers={"If-None-Match": "*"}), 412)
    assert is_problem(rest.put(path, json={"version": 2}), 428)
    assert is_problem(rest.put(path, json={"version": 2}, headers={"If-Match": '"2"'}), 412)
    assert rest.get(path).headers["etag"] == '"1"'
    moved = rest.put(path, json={"version": 2}, headers={"If-Match": '"1"'})
    assert (moved.status_code, moved.json()["version"], moved.headers["etag"]) == (200, 2, '"2"')
    assert is_problem(rest.delete(path), 428)
    assert is_problem(rest.delete(path, headers={"If-Match": '"1"'}), 412)
    assert rest.delete(path, headers={"If-Match": '"2"'}).status_code == 204
    assert is_problem(rest.get(path), 404)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("unknown/aliases/x", {"version": 1}, 404),
        ("{name}/aliases/x", {"version": 99}, 422),
        ("{name}/aliases/x", {"version": 0}, 422),
        ("{name}/aliases/x", {}, 422),
        ("{name}/aliases/latest", {"version": 1}, 422),
        ("{name}/aliases/v1", {"version": 1}, 422),
        ("{name}/aliases/a b", {"version": 1}, 422),
    ],
)
def test_invalid_alias_or_version_is_rejected(
    path: str, body: dict[str, Any], status: int, rest: httpx2.Client, shapes: list[ModelVersion]
) -> None:
    answer = rest.put(f"/v1/models/{path.format(name=shapes[0].name)}", json=body)
    assert is_problem(answer, status), answer.text


def test_only_one_of_many_concurrent_moves_of_an_alias_succeeds(
    rest: httpx2.Client, shapes: list[ModelVersion], service_registry: Registry
) -> None:
    name = shapes[0].name
    service_registry.set_alias(name, "raced", 1)
    together = threading.Barrier(8)

    def move(_: int) -> int:
        together.wait()
        url, headers = f"/v1/models/{name}/aliases/raced", {"If-Match": '"1"'}
        return rest.put(url, json={"version": 2}, headers=headers).status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = sorted(threads.map(move, range(8)))
    assert statuses == [200] + [412] * 7


def test_client_is_asked_to_retry_later_without_mlflow(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with serving(settings) as client:
        for path in ("", "/any", "/any/aliases/champion"):
            answer = client.get(f"/v1/models{path}")
            assert is_problem(answer, 503)
            assert answer.headers["retry-after"] == "5"
