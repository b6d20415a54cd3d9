"""MLflow or storage that never answers, and a locked database, stop only those who need them."""

import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import httpx2
import pytest

from service.settings import Settings
from tests.service.dataset_requests import upload
from tests.service.waiting import wait_until

Document = dict[str, Any]
Serve = Callable[[Settings], AbstractContextManager[httpx2.Client]]


def test_silent_mlflow_stops_only_the_routes_of_models(
    settings: Settings, serve: Serve, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"registry_threads": 1, "max_waiting": 1, "registry_timeout_s": 3600}
    with silent_server() as (port, break_connections), ThreadPoolExecutor(2) as clients:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")
        with serve(settings.model_copy(update=limits)) as api:
            asked = [clients.submit(api.get, "/v1/models", timeout=120) for _ in range(2)]
            wait_until(lambda: calls(api, "registry") == 2, "two requests to wait for MLflow")
            refused = api.get("/v1/models/shapes")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            assert refused.json()["title"] == "The model registry (MLflow) does not answer"
            check_alive(api)
            assert api.get("/v1/jobs").status_code == 200
            assert api.post("/v1/jobs", json={"config": document}).status_code == 202
            assert not any(request.done() for request in asked)
            wait_until(lambda: break_connections() or all(request.done() for request in asked), "the answers")
            assert [request.result().status_code for request in asked] == [503, 503]


def test_silent_storage_stops_only_uploads(
    settings: Settings, serve: Serve, document: Document, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"file_threads": 1, "uploads": 1, "storage_url": "s3://bucket/x", "storage_timeout_s": 600}
    with silent_server() as (port, break_connections), ThreadPoolExecutor(1) as clients:
        for name, text in {
            "ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "ACCESS_KEY_ID": "x",
            "SECRET_ACCESS_KEY": "x",
        }.items():
            monkeypatch.setenv(f"AWS_{name}", text)
        with serve(settings.model_copy(update=limits)) as api:
            wait_until(lambda: calls(api, "dataset_checks") >= 1, "the search for incomplete archives to wait for S3")
            asked = clients.submit(upload, api, archive)
            wait_until(lambda: calls(api, "archives") == 1, "the upload to wait for S3")
            assert calls(api, "uploads") == 0
            refused = upload(api, archive)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
            check_alive(api)
            assert api.get("/v1/datasets").json()["datasets"] == []
            assert api.post("/v1/datasets", json={"name": "shapes", "folder": "shapes"}).status_code == 202
            assert api.post("/v1/jobs", json={"config": document}).status_code == 202
            assert not asked.done()
            wait_until(lambda: break_connections() or asked.done(), "the answer")
            assert (asked.result().status_code, asked.result().json()["title"]) == (503, "The storage is unavailable")
            failed = 'pyramidion_pool_failures_total{pool="archives",reason="error"} 1.0'
            assert failed in api.get("/metrics").text
            break_connections()


def test_locked_database_stops_only_the_routes_that_write(settings: Settings, serve: Serve, document: Document) -> None:
    limits = {"database_threads": 1, "max_waiting": 1, "database_timeout_s": 3600, "probe_timeout_s": 0.1}
    with serve(settings.model_copy(update=limits)) as api, ThreadPoolExecutor(2) as clients:
        with locked(settings):
            asked: list[Future[httpx2.Response]] = []
            for _ in range(2):
                asked.append(clients.submit(api.post, "/v1/jobs", json={"config": document}, timeout=120))
                wait_until(lambda: calls(api, "database_writes") == len(asked), "the request to wait for the lock")
            refused = api.post("/v1/jobs/x/cancel")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            assert refused.json()["title"] == "The database does not answer"
            check_alive(api)
            assert api.get("/v1/jobs").json()["jobs"] == []
            assert api.get("/v1/models?foo").status_code == 422
            ready = api.get("/readyz")
            assert ready.status_code == 503
            (database,) = (check for check in ready.json()["checks"] if check["name"] == "database")
            assert not database["is_ok"]
            assert not any(request.done() for request in asked)
        assert [request.result().status_code for request in asked] == [202, 202]


def test_write_that_cannot_get_the_lock_reports_that_nothing_was_changed(
    settings: Settings, serve: Serve, document: Document
) -> None:
    with serve(settings.model_copy(update={"database_timeout_s": 0.4})) as api:
        with locked(settings):
            answer = api.post("/v1/jobs", json={"config": document})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        if answer.json()["title"] == "The database is unavailable":  # not on a machine that is too busy
            assert "nothing was changed" in answer.json()["detail"]
            assert api.get("/v1/jobs").json()["jobs"] == []


def check_alive(api: httpx2.Client) -> None:
    assert api.get("/livez").json() == {"status": "alive"}
    assert api.get("/v1/capabilities").status_code == 200
    assert api.get("/openapi.json").status_code == 200


def calls(api: httpx2.Client, pool: str) -> float:
    lines = api.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f'pyramidion_pool_calls{{pool="{pool}"}}'))


@contextmanager
def silent_server() -> Iterator[tuple[int, Callable[[], None]]]:
    """Accept connections and never answer; yield the port, and a function that breaks all of them."""
    accepted: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                accepted.append(listener.accept()[0])

    def break_connections() -> None:
        while accepted:
            accepted.pop().close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1], break_connections
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            break_connections()


@contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Hold the write lock of the database."""
    with sqlite3.connect(settings.root / "service.db", isolation_level=None) as database:
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            database.execute("ROLLBACK")
