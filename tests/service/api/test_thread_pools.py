"""Blocking work in thread pools: their limits and deadlines, and that no other threads serve requests."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from inspect import isasyncgenfunction
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import _is_coroutine_callable
from fastapi.routing import iter_route_contexts

from service.api import thread_pools
from service.api.app import create_app
from service.api.thread_pools import NoAnswer, ThreadPool, Work
from service.settings import Settings
from tests.settings_table import PAGE as OPERATIONS

Document = dict[str, Any]
Serve = Callable[[Settings], AbstractContextManager[httpx2.Client]]
PAGE = OPERATIONS.read_text("utf-8")


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


def test_released_call_waits_for_its_turn_although_the_pool_is_full(gate: threading.Event) -> None:
    released: list[int] = []

    async def scenario(pool: ThreadPool) -> None:
        waiting = [asyncio.create_task(pool.run(gate.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        call = pool.run_later(lambda: released.append(1))
        assert call is not None
        with pytest.raises(NoAnswer):
            await pool.run(gate.wait)
        assert released == []
        gate.set()
        await asyncio.wrap_future(call)
        assert released == [1]
        await asyncio.gather(*waiting)
        pool.close()
        assert pool.run_later(lambda: released.append(2)) is None

    in_loop(1, 1, 60, scenario)


def test_api_has_no_other_threads() -> None:
    """Except the one of the log; and nobody is served before the database is open and the GPUs are listed."""
    folder = Path(thread_pools.__file__).parent
    others = {
        str(path.relative_to(folder)): found
        for path in folder.rglob("*.py")
        if (found := re.findall(r"ThreadPoolExecutor\(|run_in_executor\b|to_thread\b|[. ]Thread\(", path.read_text()))
    }
    assert others == {
        "thread_pools.py": ["ThreadPoolExecutor("], "log_writer.py": [".Thread("], "app.py": ["to_thread", "to_thread"],
    }  # fmt: skip


def test_page_of_the_operator_lists_every_pool() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.partition("| pool in ")[2].partition("\n\n")[0], re.MULTILINE)
    assert sorted(rows) == sorted(Work)


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
