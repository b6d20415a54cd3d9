"""`?dry_run=true`: a supervised child process reports what a job would train."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from pydantic import SecretStr

from pipelines.base.records import Category
from pipelines.inference.export import export_model
from pipelines.model import build_model
from pipelines.spec.load import validate_document
from service.settings import Settings
from tests.service.api.servers import LiveApi
from tests.service.waiting import TIMEOUT_S, wait_until

Document = dict[str, Any]
Serve = Callable[[Settings], AbstractContextManager[httpx2.Client]]


def checks() -> list[psutil.Process]:
    """Return the running check processes below this process, with their children."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "pipelines.cli" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def wait_for_checks(number: int) -> None:
    wait_until(lambda: len(checks()) == number, f"{number} running checks", pause_s=0.01)


@pytest.mark.integration
def test_dry_run_reports_what_the_job_would_train(settings: Settings, serve: Serve, document: Document) -> None:
    job = validate_document(document)
    categories = {"boxes": [Category(1, "box")]}
    export_model(build_model(job.model, categories), job, categories, settings.weights_roots[0] / "runs" / "a")
    document["model"]["init_from"] = "runs/a"
    # YAML and JSON escape this text differently; it must reach the child unchanged.
    document["data"]["sources"]["shapes"]["labels"][0]["classes"] = {"\U0001f600\x7f\u2028": None}
    body = {"config": document, "resources": {"cpus": 1}}
    with serve(settings) as api:
        answer = api.post("/v1/jobs?dry_run=true", json=body, timeout=120)
        assert answer.status_code == 200, answer.text
        assert api.get("/v1/jobs").json()["jobs"] == []
    outcome = answer.json()
    assert outcome["config"]["model"]["optimizer"]["name"] == "adamw"
    assert list(outcome["config"]["data"]["sources"]["shapes"]["labels"][0]["classes"]) == ["\U0001f600\x7f\u2028"]
    assert outcome["resources"] == {"cpus": 1, "gpus": 0, "gpu_type": None, "nodes": 1, "timeout_s": None}
    parameters = {stage["stage"]: stage["parameters"] for stage in outcome["stages"]}
    assert set(parameters) == {"c3", "c4", "c5", "neck", "heads"}
    assert outcome["trainable"] == [{"epoch": 0, "stages": sorted(parameters), "parameters": sum(parameters.values())}]
    assert outcome["data_report"]
    wait_for_checks(0)


def test_init_from_must_be_inside_a_weights_root(
    settings: Settings, serve: Serve, document: Document, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "model.json").touch()
    (settings.weights_roots[0] / "link").symlink_to(tmp_path / "outside")
    with serve(settings) as api:
        for name in ("../outside", str(tmp_path / "outside"), "link"):
            document["model"]["init_from"] = name
            answer = api.post("/v1/jobs?dry_run=true", json={"config": document}, timeout=120)
            assert answer.status_code == 422, (name, answer.text)
            (error,) = answer.json()["errors"]
            assert error["pointer"] == "/config/model/init_from"


@pytest.mark.slow
def test_init_from_an_unknown_registered_model_is_rejected(
    settings: Settings, serve: Serve, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    document["model"]["init_from"] = "models:/nobody@champion"
    with serve(settings) as api:
        answer = api.post("/v1/jobs?dry_run=true", json={"config": document}, timeout=120)
        assert answer.status_code == 422, answer.text
        (error,) = answer.json()["errors"]
        assert error["pointer"] == "/config/model/init_from"
        assert str(settings.root) in error["detail"]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        answer = api.post("/v1/jobs?dry_run=true", json={"config": document}, timeout=120)
        assert answer.status_code == 503, answer.text
        assert (
            "model.init_from: models:/nobody@champion is not available, so the run was not started"
            in answer.json()["detail"]
        )


def test_dry_run_reports_invalid_data(shared_api: httpx2.Client, document: Document) -> None:
    document["data"]["sources"]["shapes"]["splits"] = {"train": "train", "val": "nothing"}
    answer = shared_api.post("/v1/jobs?dry_run=true", json={"config": document}, timeout=120)
    assert answer.status_code == 422
    errors = answer.json()["errors"]
    assert {error["pointer"] for error in errors} == {"/config/data"}
    assert any("nothing.json" in error["detail"] for error in errors)


def test_dry_run_of_an_invalid_document_starts_no_process(serve: Serve, settings: Settings, document: Document) -> None:
    del document["model"]["backbone"]
    # A process would exceed this time.
    with serve(settings.model_copy(update={"dry_run_timeout_s": 1e-3})) as api:
        answer = api.post("/v1/jobs?dry_run=true", json={"config": document})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/config/model/backbone"]


def test_dry_run_beyond_its_time_limit_is_killed(
    serve: Serve, settings: Settings, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    searching: list[str] = []
    find_pids = psutil.pids
    monkeypatch.setattr(psutil, "pids", lambda: searching.append(threading.current_thread().name) or find_pids())
    with serve(settings.model_copy(update={"dry_run_timeout_s": 0.3})) as api:
        answer = api.post("/v1/jobs?dry_run=true", json={"config": document})
        assert answer.status_code == 504
        assert "PYRAMIDION_DRY_RUN_TIMEOUT_S" in answer.json()["detail"]
        assert all(name.startswith("checks") for name in searching), "the event loop must not search for processes"
        assert searching
        assert checks() == []


def test_dry_run_is_killed_when_its_client_disconnects(shared_api: httpx2.Client, document: Document) -> None:
    with pytest.raises(httpx2.TimeoutException):
        shared_api.post("/v1/jobs?dry_run=true", json={"config": document}, timeout=0.5)
    wait_for_checks(0)


def test_api_that_is_killed_during_a_dry_run_leaves_nothing(
    settings: Settings, document: Document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    live = LiveApi(settings, tmp_path / "api.log")
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(live.client.post, "/v1/jobs?dry_run=true", json={"config": document})
        wait_for_checks(1)
        checks()[0].suspend()
        live.close()
        assert asked.exception() is not None
    wait_for_checks(0)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_number_of_concurrent_dry_runs_is_limited(
    serve: Serve, settings: Settings, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "MLFLOW_FLASK_SERVER_SECRET_KEY", "DATABASE_URL", "GITHUB_TOKEN"):
        monkeypatch.setenv(name, "a secret")
    monkeypatch.setattr("service.api.child_runs.WAIT_S", 0.05)

    def start() -> httpx2.Response:
        return api.post("/v1/jobs?dry_run=true", json={"config": document}, timeout=TIMEOUT_S)

    with_secret = settings.model_copy(update={"predictor_secret": SecretStr("a secret")})
    with serve(with_secret) as api, ThreadPoolExecutor(2) as threads:
        others = [threads.submit(start) for _ in range(2)]
        wait_for_checks(2)
        for check in checks():
            check.suspend()
            assert [name for name, text in check.environ().items() if "secret" in text] == []
        answer = start()
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        for check in checks():
            check.kill()
        assert all(other.result().status_code >= 500 for other in others)
    wait_for_checks(0)


def test_dry_runs_are_killed_when_the_server_stops(serve: Serve, settings: Settings, document: Document) -> None:
    with ThreadPoolExecutor(1) as threads, serve(settings) as api:
        asked = threads.submit(api.post, "/v1/jobs?dry_run=true", json={"config": document}, timeout=TIMEOUT_S)
        wait_for_checks(1)
    assert asked.exception() is not None or asked.result().status_code >= 500
    wait_for_checks(0)
