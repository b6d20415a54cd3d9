"""The load of `tests.bench.service`, in a process of its own: `python -m tests.bench.service_load PORT LOAD JOB ...`.

Each kind of client runs until this process is killed, and starts again whenever the server ends it. A line on the
standard output says when all clients have started.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass

PAUSE_S = 0.2
"""Pause before a client that was disconnected starts again."""
SLOW_BYTES_S = 1.0
"""Pause of slow clients after each byte."""

Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter, asyncio.Event], Awaitable[None]]
"""A client gets its connection, and sets the event when it has started."""


@dataclass(frozen=True)
class Load:
    """Numbers of clients: without a request, with a slow request, of a silent MLflow, and of event streams."""

    idle: int = 0
    slow: int = 0
    models: int = 0
    listeners: int = 0

    def as_argument(self) -> str:
        return json.dumps(asdict(self))


def _request(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


async def _read_to_end(reader: asyncio.StreamReader) -> None:
    while await reader.read(1 << 16):
        pass


async def idle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, has_started: asyncio.Event) -> None:
    """Send nothing."""
    has_started.set()
    await _read_to_end(reader)


async def slow_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, has_started: asyncio.Event) -> None:
    """Send headers byte by byte."""
    has_started.set()
    await _trickle(writer, _request("GET", "/v1/jobs", "X: " + "x" * 1000))


async def slow_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, has_started: asyncio.Event) -> None:
    """Send a body byte by byte."""
    has_started.set()
    writer.write(_request("POST", "/v1/jobs", "Content-Type: application/json", "Content-Length: 1000"))
    await _trickle(writer, b" " * 1000)


async def _trickle(writer: asyncio.StreamWriter, data: bytes) -> None:
    for byte in data:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(SLOW_BYTES_S)


async def models(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, has_started: asyncio.Event) -> None:
    """Ask for models, one request after the other."""
    has_started.set()
    writer.write(_request("GET", "/v1/models", "Connection: close"))
    await _read_to_end(reader)


def listener(job_id: str) -> Client:
    """Return a client that follows the events of a job."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, has_started: asyncio.Event) -> None:
        writer.write(_request("GET", f"/v1/jobs/{job_id}/events", "Accept: text/event-stream"))
        await reader.read(1 << 16)
        has_started.set()
        await _read_to_end(reader)

    return listen


async def _keep_running(port: int, client: Client, has_started: asyncio.Event) -> None:
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await client(reader, writer, has_started)
            writer.close()
        except OSError:
            pass
        await asyncio.sleep(PAUSE_S)


async def run(port: int, load: Load, jobs: Sequence[str]) -> None:
    """Run all clients forever."""
    clients: list[Client] = [idle] * load.idle
    clients += [slow_headers] * (load.slow // 2) + [slow_body] * (load.slow - load.slow // 2)
    clients += [models] * load.models + [listener(jobs[number % len(jobs)]) for number in range(load.listeners)]
    started = [asyncio.Event() for _ in clients]
    running = [
        asyncio.create_task(_keep_running(port, client, event)) for client, event in zip(clients, started, strict=True)
    ]
    for event in started:
        await event.wait()
    print("started", flush=True)
    await asyncio.gather(*running)


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]), Load(**json.loads(sys.argv[2])), sys.argv[3:]))
