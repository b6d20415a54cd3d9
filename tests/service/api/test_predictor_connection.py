"""The HTTP connections to a predictor, with small servers in its place."""

import asyncio
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from service.api.predictor_connection import ConnectionBroken, PredictorConnection
from service.predictor_address import PredictorAddress

Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return the head and the body of a request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
    return head, await reader.readexactly(length)


def answer(body: bytes, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def with_server(folder: Path, answering: Answering, work: Callable[[PredictorConnection], Awaitable[None]]) -> None:
    """Run `work` with connections to a Unix socket where each connection is answered by `answering`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answering(reader, writer)
        except asyncio.IncompleteReadError:
            pass  # the client has closed the connection
        finally:
            writer.close()

    async def run() -> None:
        server = await asyncio.start_unix_server(serve, folder / "socket", limit=1 << 20)
        connection = PredictorConnection(PredictorAddress(str(folder / "socket")), secret="key")
        try:
            await work(connection)
        finally:
            await connection.close()
            server.close()

    asyncio.run(run())


def test_one_connection_carries_requests_of_any_size_one_after_the_other(tmp_path: Path) -> None:
    accepted: list[Any] = []
    heads: list[bytes] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        while True:
            head, body = await read_request(reader)
            heads.append(head)
            writer.write(answer(body))

    async def ask(connection: PredictorConnection) -> None:
        for image in (b"", b"small", bytes(3 << 20)):
            answered = await connection.send("POST", "/predict", {"name": "a&b ü", "version": "1"}, image, 30.0)
            assert (answered.status_code, answered.content) == (200, image)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with_server(tmp_path, echo, ask)
    assert len(accepted) == 1
    assert heads[0].startswith(b"POST /predict?name=a%26b+%C3%BC&version=1 HTTP/1.1\r\n")
    assert b"\r\nauthorization: bearer key\r\n" in heads[0].lower()


def test_long_headers_arrive(tmp_path: Path) -> None:
    async def warn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer(b"{}", b"Prediction-Warnings: " + 40_000 * b"w"))
        await writer.drain()

    async def ask(connection: PredictorConnection) -> None:
        answered = await connection.send("POST", "/predict", {}, b"image", 30.0)
        assert answered.headers["prediction-warnings"] == 40_000 * "w"

    with_server(tmp_path, warn, ask)


def test_connection_that_ends_between_two_requests_is_replaced(tmp_path: Path) -> None:
    """A predictor that was started again has closed the connections that the API keeps."""
    accepted: list[Any] = []
    closed = asyncio.Event()

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        _, body = await read_request(reader)
        writer.write(answer(body))
        writer.close()
        await writer.wait_closed()
        closed.set()

    async def ask(connection: PredictorConnection) -> None:
        for image in (b"first", b"second"):
            closed.clear()
            assert (await connection.send("POST", "/predict", {}, image, 30.0)).content == image
            await closed.wait()
            await asyncio.sleep(0.01)  # the loop reads the end of the connection before this is over

    with_server(tmp_path, answer_once, ask)
    assert len(accepted) == 2


def test_request_of_a_client_that_has_gone_ends_its_connection(tmp_path: Path) -> None:
    """The predictor stops its work when the connection of a request ends."""
    received, ended = asyncio.Event(), asyncio.Event()

    async def wait_for_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        received.set()
        assert await reader.read() == b""
        ended.set()

    async def ask_and_leave(connection: PredictorConnection) -> None:
        asking = asyncio.create_task(connection.send("POST", "/predict", {}, b"image", 30.0))
        await received.wait()
        assert not ended.is_set()
        asking.cancel()
        await asyncio.wait_for(ended.wait(), 30)

    with_server(tmp_path, wait_for_the_end, ask_and_leave)


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"no HTTP\r\n\r\n"])
def test_connection_that_ends_before_the_answer_is_broken(sent: bytes, tmp_path: Path) -> None:
    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(sent)
        await writer.drain()

    async def ask(connection: PredictorConnection) -> None:
        with pytest.raises(ConnectionBroken):
            await connection.send("POST", "/predict", {}, b"image", 30.0)
        assert not await connection.is_healthy(30.0)

    with_server(tmp_path, end, ask)


def test_connection_that_nobody_accepts_is_broken(tmp_path: Path) -> None:
    async def ask() -> None:
        connection = PredictorConnection(PredictorAddress(str(tmp_path / "nothing")))
        with pytest.raises(ConnectionBroken, match="nothing"):
            await connection.send("POST", "/predict", {}, b"image", 30.0)
        await connection.close()

    asyncio.run(ask())


def test_answer_that_does_not_come_in_time_is_a_timeout(tmp_path: Path) -> None:
    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def ask(connection: PredictorConnection) -> None:
        with pytest.raises(TimeoutError):
            await connection.send("POST", "/predict", {}, b"image", 0.05)
        assert not await connection.is_healthy(0.05)

    with_server(tmp_path, wait, ask)


def test_proxies_of_the_environment_have_no_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    async def ask() -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(answer(b"ok"))
            writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        connection = PredictorConnection(PredictorAddress(None, host, port))
        assert await connection.is_healthy(30.0)
        await connection.close()
        server.close()

    asyncio.run(ask())
