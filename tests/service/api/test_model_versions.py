"""Versions and aliases of registered models over REST."""

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx2
import pytest

from pipelines.tracking.mlflow_store import connect
from pipelines.tracking.model_archive import unpack_archive
from pipelines.tracking.model_versions import PROMOTION_TAG, ModelVersion
from pipelines.tracking.registry import Registry
from service.settings import Settings
from service.store.database import open_database
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import NewJob
from tests.service.api.problem_answers import is_problem
from tests.service.api.servers import serving, serving_models


@pytest.fixture(scope="module")
def service(mlflow_runs_root: Path) -> Settings:
    return Settings(root=mlflow_runs_root)


@pytest.fixture(scope="module")
def rest(service: Settings) -> Iterator[httpx2.Client]:
    """A client of one service for all tests here; its predictor never starts."""
    with serving_models(service) as client:
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


def test_version_has_the_decision_about_its_promotion(
    rest: httpx2.Client, shapes: list[ModelVersion], service_registry: Registry
) -> None:
    decision = {
        "promote_if": "surely_better",
        "metric": "val/shapes/AP50",
        "is_promoted": False,
        "reason": "unsure",
        "value": 0.6,
        "champion": 1,
        "champion_value": 0.5,
        "low": -0.1,
        "high": 0.3,
    }
    service_registry.set_version_tag(shapes[1], PROMOTION_TAG, json.dumps(decision))
    model = rest.get(f"/v1/models/{shapes[0].name}").json()
    assert [version["promotion"] for version in model["versions"]] == [decision, None]
    assert rest.get(f"/v1/models/{shapes[0].name}/versions/2").json()["promotion"] == decision


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


def test_version_has_its_origin(
    rest: httpx2.Client, shapes: list[ModelVersion], exported: list[Path], small: dict[str, Any]
) -> None:
    path = f"/v1/models/{shapes[0].name}/versions"
    details = rest.get(f"{path}/1").json()
    document = json.loads((exported[0] / "model.json").read_text())["job"]
    assert (details["name"], details["version"], details["run_id"]) == (shapes[0].name, 1, shapes[0].run_id)
    assert details["document"] == document
    assert (details["dataset"], details["start_weights"]) == (None, document["model"]["backbone"]["weights"])
    assert details["val_metrics"] == {"val/shapes/AP50": 0.5}
    assert is_problem(rest.get(f"{path}/99"), 404)
    assert is_problem(rest.get("/v1/models/unknown/versions/1"), 404)


def test_versions_are_compared(
    rest: httpx2.Client, register: Callable[[Path, str], ModelVersion], exported: list[Path], tmp_path: Path
) -> None:
    described = json.loads((exported[0] / "model.json").read_text())
    described["job"]["seed_everything"] = 77
    (tmp_path / "model.json").write_text(json.dumps(described))
    register(exported[0], "compared")
    register(tmp_path, "compared")
    compared = rest.get("/v1/models/compared/comparison", params={"first": 1, "second": 2}).json()
    assert compared["is_comparable"]
    assert compared["metrics"] == [{"name": "val/shapes/AP50", "first": 0.5, "second": 0.5, "difference": 0.0}]
    seed = json.loads((exported[0] / "model.json").read_text())["job"]["seed_everything"]
    assert compared["document"] == [{"field": "seed_everything", "first": seed, "second": 77}]
    assert is_problem(rest.get("/v1/models/compared/comparison", params={"first": 1, "second": 9}), 404)


def test_archive_has_the_checksum_of_its_version(
    rest: httpx2.Client, shapes: list[ModelVersion], exported: list[Path], tmp_path: Path
) -> None:
    path = f"/v1/models/{shapes[0].name}/versions/1"
    answer = rest.get(f"{path}/archive")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-tar")
    sha256 = hashlib.sha256(answer.content).hexdigest()
    assert rest.get(path).json()["archive"] == {"sha256": sha256, "size_bytes": len(answer.content)}
    assert answer.headers["etag"] == f'"{sha256}"'
    assert answer.headers["repr-digest"].startswith("sha-256=:")
    (tmp_path / "model.tar").write_bytes(answer.content)
    names = unpack_archive(tmp_path / "model.tar", tmp_path / "model")
    assert names == ["model.json", "model.safetensors"]
    assert all((tmp_path / "model" / name).read_bytes() == (exported[0] / name).read_bytes() for name in names)
    known = rest.get(f"{path}/archive", headers={"If-None-Match": answer.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")


def test_interrupted_download_of_an_archive_is_resumed(rest: httpx2.Client, shapes: list[ModelVersion]) -> None:
    first, second = (f"/v1/models/{shapes[0].name}/versions/{number}/archive" for number in (1, 2))
    whole = rest.get(first)
    tag, size = whole.headers["etag"], len(whole.content)
    assert whole.headers["accept-ranges"] == "bytes"
    begun = rest.get(first, headers={"Range": "bytes=0-999"})
    rest_of_it = rest.get(first, headers={"Range": "bytes=1000-", "If-Range": tag})
    assert (begun.status_code, rest_of_it.status_code) == (206, 206)
    assert rest_of_it.headers["content-range"] == f"bytes 1000-{size - 1}/{size}"
    assert (rest_of_it.headers["etag"], rest_of_it.headers["repr-digest"]) == (tag, whole.headers["repr-digest"])
    assert begun.content + rest_of_it.content == whole.content
    other = rest.get(second, headers={"Range": "bytes=1000-", "If-Range": tag})
    assert (other.status_code, hashlib.sha256(other.content).hexdigest()) == (200, other.headers["etag"].strip('"'))
    beyond = rest.get(first, headers={"Range": f"bytes={size}-"})
    assert is_problem(beyond, 416)
    assert beyond.headers["content-range"] == f"bytes */{size}"
    assert is_problem(rest.get(first, headers={"Range": "bytes=a-b"}), 400)


def files_of(registry: Registry, version: ModelVersion) -> Path:
    source = connect(registry.store).get_model_version(version.name, str(version.version)).source
    return Path(unquote(urlsplit(source).path))


def test_changed_or_missing_files_are_reported(
    rest: httpx2.Client, register: Callable[[Path, str], ModelVersion], exported: list[Path], service_registry: Registry
) -> None:
    version = register(exported[0], "changed")
    files = files_of(service_registry, version)
    description = files / "artifacts/exported/model.json"
    description.write_text(description.read_text() + " ")
    answer = rest.get("/v1/models/changed/versions/1/archive")
    assert is_problem(answer, 410)
    assert "have changed since it was registered" in answer.json()["detail"]
    shutil.rmtree(files)
    for path in ("versions/1", "versions/1/archive", "comparison?first=1&second=1"):
        assert is_problem(rest.get(f"/v1/models/changed/{path}"), 410)
    assert rest.delete("/v1/models/changed").status_code == 204


def test_version_is_deleted_with_its_files_unless_an_alias_points_to_it(
    rest: httpx2.Client, register: Callable[[Path, str], ModelVersion], exported: list[Path], service_registry: Registry
) -> None:
    versions = [register(folder, "deleted") for folder in exported]
    files = [files_of(service_registry, version) for version in versions]
    service_registry.set_alias("deleted", "champion", 1)
    refused = rest.delete("/v1/models/deleted/versions/1")
    assert is_problem(refused, 409)
    assert refused.json()["detail"].startswith("these aliases point to version 1 of 'deleted': champion;")
    assert is_problem(rest.delete("/v1/models/deleted"), 409)
    service_registry.set_alias("deleted", "champion", 2)
    assert rest.delete("/v1/models/deleted/versions/1").status_code == 204
    assert [folder.exists() for folder in files] == [False, True]
    assert is_problem(rest.delete("/v1/models/deleted/versions/1"), 404)
    service_registry.remove_alias("deleted", "champion")
    assert rest.delete("/v1/models/deleted").status_code == 204
    assert not files[1].exists()
    assert is_problem(rest.get("/v1/models/deleted"), 404)


def test_only_files_that_mlflow_made_are_deleted(
    rest: httpx2.Client, service_registry: Registry, tmp_path: Path
) -> None:
    client = connect(service_registry.store)
    client.create_registered_model("by hand")
    for folder in (tmp_path, tmp_path / "models/m-1/artifacts"):
        folder.mkdir(parents=True, exist_ok=True)
        client.create_model_version("by hand", folder.as_uri())
    assert [rest.delete(f"/v1/models/by hand/versions/{number}").status_code for number in (1, 2)] == [204, 204]
    assert (tmp_path / "models/m-1/artifacts").exists()
    assert rest.delete("/v1/models/by hand").status_code == 204


def test_promotions_have_a_history(rest: httpx2.Client, shapes: list[ModelVersion]) -> None:
    path = f"/v1/models/{shapes[0].name}"
    rest.put(f"{path}/aliases/live", json={"version": 1, "reason": "passed the tests of May"})
    rest.put(f"{path}/aliases/live", json={"version": 2}, headers={"If-Match": '"1"'})
    rest.delete(f"{path}/aliases/live", params={"reason": "replaced"}, headers={"If-Match": '"2"'})
    moves = rest.get(f"{path}/promotions", params={"alias": "live"}).json()["promotions"]
    assert [(move["from_version"], move["to_version"], move["reason"]) for move in moves] == [
        (2, None, "replaced"), (1, 2, ""), (None, 1, "passed the tests of May"),
    ]  # fmt: skip
    assert {move["by"] for move in moves} == {"local"}
    assert is_problem(rest.put(f"{path}/aliases/live", json={"version": 1, "reason": "x" * 1001}), 422)
    assert is_problem(rest.get("/v1/models/unknown/promotions"), 404)
