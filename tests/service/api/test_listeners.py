"""Many listeners of one job, slow listeners, and listeners whose server dies."""

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import httpx2
import psutil
import pytest

from service.store.jobs import JobStore
from service.store.records import Job
from tests.service.waiting import TIMEOUT_S, wait_until

MakeJob = Callable[[], Job]
EndJob = Callable[[Job], Job]
Record = Callable[..., Job]
ID = re.compile(rb"^id: (\d+)$", re.MULTILINE)
NUM_EVENTS = 2000


def request(job_id: str, *headers: str) -> bytes:
    lines = [f"GET /v1/jobs/{job_id}/events HTTP/1.1", "Host: localhost", "Accept: text/event-stream", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


async def listen(port: int, job_id: str) -> list[int]:
    """Return the sequence numbers of a stream until the server ends it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(job_id, "Connection: close"))
    heard = await reader.read()
    writer.close()
    assert heard.startswith(b"HTTP/1.1 200 ")
    assert heard.endswith(b"0\r\n\r\n")
    return [int(seq) for seq in ID.findall(heard)]


def wait_until_ready(live_api: Any) -> None:
    assert live_api.client.get("/livez").status_code == 200


def check_listeners(
    live_api: Any, store: JobStore, job: Job, end_job: EndJob, record: Record, num_listeners: int
) -> None:
    """Check listeners: a third of them connect before the events, the others during them, and one after the end."""
    wait_until_ready(live_api)
    is_written = threading.Event()

    def write() -> None:
        held = job
        step = 0
        while step < NUM_EVENTS:
            size = min(1 + step % 37, NUM_EVENTS - step)
            held = record(held, range(step, step + size), losses={"boxes/class": 0.123456, "boxes/box": 1.5})
            step += size
            time.sleep(0.01)
        end_job(held)
        is_written.set()

    async def scenario() -> list[list[int]]:
        listeners = [asyncio.create_task(listen(live_api.port, job.id)) for _ in range(num_listeners // 3)]
        await asyncio.sleep(0.2)
        writer = asyncio.create_task(asyncio.to_thread(write))
        while len(listeners) < num_listeners:
            listeners.append(asyncio.create_task(listen(live_api.port, job.id)))
            await asyncio.sleep(0.7 / num_listeners)
        await writer
        listeners.append(asyncio.create_task(listen(live_api.port, job.id)))
        async with asyncio.timeout(120):
            return list(await asyncio.gather(*listeners))

    everything = asyncio.run(scenario())
    written = [row.seq for row in store.events(job.id, 0, 10_000)]
    assert len(written) == NUM_EVENTS + 5
    for heard in everything:
        assert heard == written


def test_20_listeners_receive_every_event_once_and_in_order(
    live_api: Any, store: JobStore, running_job: MakeJob, end_job: EndJob, record: Record
) -> None:
    check_listeners(live_api, store, running_job(), end_job, record, 20)


@pytest.mark.slow
def test_100_listeners_receive_every_event_once_and_in_order(
    live_api: Any, store: JobStore, running_job: MakeJob, end_job: EndJob, record: Record
) -> None:
    check_listeners(live_api, store, running_job(), end_job, record, 100)


def test_listener_loses_no_event_when_the_server_is_killed(
    live_api: Any, store: JobStore, running_job: MakeJob, end_job: EndJob, record: Record
) -> None:
    job = running_job()
    heard: list[int] = []
    is_over = threading.Event()

    def listen_until_over() -> None:
        """Reconnect like an EventSource until there are no more events."""
        last = "0"
        while True:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
            try:
                with live_api.client.stream("GET", f"/v1/jobs/{job.id}/events", headers=headers) as answer:
                    if answer.status_code == 204:
                        is_over.set()
                        return
                    # An event is complete at its empty line.
                    pending = last
                    for line in answer.iter_lines():
                        if line.startswith("id: "):
                            pending = line[4:]
                        elif not line and pending != last:
                            last = pending
                            heard.append(int(last))
            except httpx2.TransportError:
                time.sleep(0.02)

    thread = threading.Thread(target=listen_until_over)
    thread.start()
    for kills in range(2):
        wait_until_ready(live_api)
        for batch in range(30):
            job = record(job, range(10))
            if batch == 15 + kills:
                before = len(heard)
                live_api.kill()
        live_api.start()
        assert before < len(store.events(job.id, 0, 10_000))
    end_job(job)
    assert is_over.wait(TIMEOUT_S)
    thread.join()
    assert heard == [row.seq for row in store.events(job.id, 0, 10_000)]


def test_clients_that_never_read_need_little_memory(live_api: Any, running_job: MakeJob, record: Record) -> None:
    job = running_job()
    wait_until_ready(live_api)
    process = psutil.Process(live_api.process.pid)
    silent = []
    for _ in range(20):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", live_api.port))
        connection.sendall(request(job.id))
        silent.append(connection)
    before = process.memory_info().rss
    for _ in range(20):
        job = record(job, range(500), text="x" * 1000)
    # A reading client gets all 10 MB; the others have not received them.
    newest = live_api.client.get(f"/v1/jobs/{job.id}/events", params={"limit": 1000}).json()["next_after"]
    while newest < 10_000:
        newest = live_api.client.get(f"/v1/jobs/{job.id}/events", params={"after": newest, "limit": 1000}).json()[
            "next_after"
        ]
    assert process.memory_info().rss - before < 64 << 20
    live_api.stop()
    for connection in silent:
        connection.close()


def test_streams_end_cleanly_when_the_server_stops(live_api: Any, running_job: MakeJob) -> None:
    job = running_job()
    wait_until_ready(live_api)
    asked = [
        ("events", "text/event-stream"), ("events?after=1000&wait=30", "application/json"), ("logs?follow=true", "*/*")
    ]  # fmt: skip
    with ExitStack() as stack:
        connections = []
        for path, accept in asked:
            address = ("127.0.0.1", live_api.port)
            connections.append(stack.enter_context(socket.create_connection(address, timeout=TIMEOUT_S)))
            head = f"GET /v1/jobs/{job.id}/{path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n"
            connections[-1].sendall(head.encode())
        wait_until(lambda: "pyramidion_event_listeners 2.0" in live_api.client.get("/metrics").text, "two streams")
        live_api.stop()
        heard = [connection.makefile("rb").read() for connection in connections]
    assert [answer.split(b" ")[1] for answer in heard] == [b"200"] * 3
    stream, page, log = heard
    assert stream.endswith(b"\r\n0\r\n\r\n")
    assert log.endswith(b"0\r\n\r\n")
    assert json.loads(page.partition(b"\r\n\r\n")[2])["events"] == []
    # If the server had waited in vain for the end of a stream, it would have reported that.
    assert all(line.startswith('{"time": ') for line in live_api.log().splitlines()), live_api.log()
