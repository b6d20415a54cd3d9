"""Blocking work in thread pools: MLflow that never answers or a locked database stop only those who need them."""

import asyncio
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from inspect import isasyncgenfunction
from typing import Any

import httpx2
import pytest
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import _is_coroutine_callable
from fastapi.routing import iter_route_contexts

from service.api.app import create_app
from service.api.thread_pools import NoAnswer, ThreadPool, Work
from service.settings import Settings
from tests.service.waiting import wait_until

Document = dict[str, Any]
Serve = Callable[[Settings], AbstractContextManager[httpx2.Client]]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What the threads of a test wait for."""
    gate = threading.Event()
    yield gate
    gate.set()


def in_loop(num_threads: int, num_waiting: int, timeout_s: float, scenario: Callable[[ThreadPool], Any]) -> None:
    pool = ThreadPool(Work.READS, num_threads, num_waiting, timeout_s)
    try:
        asyncio.run(scenario(pool))
    finally:
        pool.close()


def test_pool_returns_results_and_raises_errors() -> None:
    async def scenario(pool: ThreadPool) -> None:
        assert await pool.run(divmod, 7, 2) == (3, 1)
        assert time.time() - pool.answered_at < 60
        for error in (ZeroDivisionError("x"), TimeoutError("of the function itself")):
            with pytest.raises(type(error)):
                await pool.run(_raise, error)
        assert pool.num_unfinished == 0

    in_loop(1, 1, 60, scenario)


def test_pool_that_is_full_rejects_at_once(gate: threading.Event) -> None:
    async def scenario(pool: ThreadPool) -> None:
        waiting = [asyncio.create_task(pool.run(gate.wait)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(NoAnswer, match="3 requests already wait") as caught:
            await pool.run(gate.wait)
        assert (caught.value.status_code, caught.value.headers) == (503, {"Retry-After": "5"})
        assert pool.failures["full"] == 1
        gate.set()
        assert await asyncio.gather(*waiting) == [True] * 3
        assert await pool.run(gate.wait)

    in_loop(2, 1, 60, scenario)


def test_call_that_takes_too_long_is_abandoned_and_keeps_its_thread(gate: threading.Event) -> None:
    started: list[int] = []

    async def scenario(pool: ThreadPool) -> None:
        with pytest.raises(NoAnswer, match=r"did not answer within 1 s"):
            await pool.run(gate.wait)
        with pytest.raises(NoAnswer):
            await pool.run(started.append, 1)
        assert (pool.failures["timeout"], pool.num_unfinished) == (2, 1)
        gate.set()

    in_loop(1, 1, 1.0, scenario)
    assert started == [], "a call that had not started when its caller gave up must be dropped"


def test_no_route_uses_the_threads_that_all_requests_share(settings: Settings) -> None:
    plain = {
        f"{context.path}: {getattr(call, '__qualname__', call)}"
        for context in iter_route_contexts(create_app(settings).routes)
        for call in _calls(getattr(context, "dependant", Dependant()))
        if not (_is_coroutine_callable(call) or isasyncgenfunction(call))
    }
    assert plain == set(), "use a route class of service.api.thread_pools, and coroutines as dependencies"


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


def _calls(dependant: Dependant) -> Iterator[Any]:
    if dependant.call is not None:
        yield dependant.call
    for dependency in dependant.dependencies:
        yield from _calls(dependency)


def _raise(error: Exception) -> None:
    raise error


def test_number_of_streams_is_limited(settings: Settings, serve: Serve, document: Document) -> None:
    with serve(settings.model_copy(update={"max_event_streams": 1})) as api:
        job = api.post("/v1/jobs", json={"config": document}).json()["id"]
        sse = {"Accept": "text/event-stream"}
        with api.stream("GET", f"/v1/jobs/{job}/events", headers=sse) as stream:
            lines = stream.iter_lines()  # closes the stream when it is deleted
            next(lines)
            for path, headers in (("events", sse), ("logs?follow=true", {})):
                refused = api.get(f"/v1/jobs/{job}/{path}", headers=headers)
                assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
                assert refused.json()["title"] == "Too many streams"
            assert api.get(f"/v1/jobs/{job}/events").status_code == 200


def test_registration_of_a_folder_is_a_limited_kind_of_work(api: httpx2.Client) -> None:
    assert api.post("/v1/datasets", json={"name": "shapes", "folder": "shapes"}).status_code == 202
    answered = 'pyramidion_pool_last_answer_timestamp_seconds{pool="checks"} '
    assert float(api.get("/metrics").text.partition(answered)[2].partition("\n")[0]) > 0


def test_clients_that_come_at_once_get_no_more_streams_than_allowed(
    settings: Settings, serve: Serve, document: Document
) -> None:
    num_clients = 8
    answered, done = threading.Barrier(num_clients + 1, timeout=60), threading.Event()

    def listen(api: httpx2.Client, job: str) -> int:
        with api.stream("GET", f"/v1/jobs/{job}/events", headers={"Accept": "text/event-stream"}) as stream:
            answered.wait()
            done.wait(60)
            return stream.status_code

    with serve(settings.model_copy(update={"max_event_streams": 1})) as api:
        job = api.post("/v1/jobs", json={"config": document}).json()["id"]
        with ThreadPoolExecutor(num_clients) as clients:
            statuses = [clients.submit(listen, api, job) for _ in range(num_clients)]
            answered.wait()
            done.set()
            assert sorted(status.result() for status in statuses) == [200, *[503] * (num_clients - 1)]
