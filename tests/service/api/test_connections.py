"""Limits of connections: a client that exceeds one gets a clear answer or is disconnected; others are served."""

import json
import logging
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.api import connections
from service.api.connections import Connections
from service.settings import Settings
from service.store.database import open_database
from service.store.jobs import JobStore
from service.store.records import NewJob
from tests.service.waiting import wait_until

Serve = Callable[[Settings], AbstractContextManager[httpx2.Client]]

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@contextmanager
def connected(api: httpx2.Client) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", api.base_url.port or 0), timeout=60) as connection:
        yield connection


def read_all(connection: socket.socket) -> bytes:
    """Return everything until the server closes the connection."""
    received = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(1 << 16):
            received += piece
    return received


def read_until(connection: socket.socket, text: bytes, times: int = 1) -> bytes:
    """Return what has arrived when it contains the text; answers may arrive in any number of pieces."""
    received = b""
    while received.count(text) < times:
        piece = connection.recv(1 << 16)
        assert piece, f"the server closed the connection after {received!r}"
        received += piece
    return received


def is_alive(connection: socket.socket) -> bool:
    """Ask a connection for /livez, and read the complete answer."""
    connection.sendall(GET + b"\r\n")
    return read_until(connection, b'{"status":"alive"}').startswith(b"HTTP/1.1 200 ")


def talk(api: httpx2.Client, *pieces: bytes) -> tuple[int, dict[str, Any]]:
    """Send pieces, and return the status and the problem of an answer after which the server closes the connection."""
    with connected(api) as connection:
        for piece in pieces:
            connection.sendall(piece)
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, head
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings with long times, which a busy machine does not exceed, and a small size of headers."""
    minutes = {"idle_timeout_s": 300, "header_timeout_s": 300, "body_timeout_s": 300, "write_timeout_s": 300}
    return Settings(root=tmp_path_factory.mktemp("patient"), gpus=0, max_header_bytes=2000, **minutes)


@pytest.fixture(scope="module")
def narrow(patient: Settings, serve: Serve) -> Iterator[httpx2.Client]:
    """A server that accepts small headers only."""
    with serve(patient) as api:
        yield api


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings with short times."""
    return Settings(
        root=tmp_path_factory.mktemp("quick"), gpus=0, idle_timeout_s=1, header_timeout_s=1, body_timeout_s=1,
        write_timeout_s=1, min_body_bytes_per_s=1_000_000_000,
    )  # fmt: skip


@pytest.fixture(scope="module")
def limited(quick: Settings, serve: Serve) -> Iterator[httpx2.Client]:
    """A server that disconnects slow clients after a second."""
    with serve(quick) as api:
        yield api


@pytest.mark.parametrize(
    "pieces",
    [
        (GET + b"X: " + b"x" * 2000,),
        (GET, *[b"X: y\r\n"] * 400),
        (b"GET /" + b"x" * 3000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", *[b"X: " + b"x" * 100 + b"\r\n"] * 40),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 6000),
    ],
    ids=["one header", "many headers", "path", "trailers", "extension of a chunk"],
)
def test_headers_that_are_too_large_are_rejected_while_they_arrive(
    narrow: httpx2.Client, pieces: tuple[bytes, ...]
) -> None:
    status, problem = talk(narrow, *pieces)
    assert (status, problem["title"]) == (431, "Headers too large")
    assert "PYRAMIDION_MAX_HEADER_BYTES" in problem["detail"]


def test_headers_below_the_limit_may_arrive_in_any_pieces_and_with_their_body(narrow: httpx2.Client) -> None:
    body = json.dumps({"config": {"name": "x" * 5000}}).encode()
    request = POST + f"Content-Length: {len(body)}\r\nX: {'x' * 1500}\r\n\r\n".encode() + body
    for size in (len(request), 700, 64):
        with connected(narrow) as connection:
            for start in range(0, len(request), size):
                connection.sendall(request[start : start + size])
            assert read_until(connection, b"\r\n").startswith(b"HTTP/1.1 422 ")
            # The connection is still usable, and the limit applies to each request.
            connection.sendall((GET + b"X: " + b"x" * 1500 + b"\r\n\r\n") * 3)
            read_until(connection, b'{"status":"alive"}', times=3)


def test_large_headers_of_many_megabytes_do_not_hold_up_others(narrow: httpx2.Client) -> None:
    with connected(narrow) as connection:
        with suppress(ConnectionError):
            for _ in range(64):
                connection.sendall(b"X: " + b"x" * (1 << 18))
        assert narrow.get("/livez").status_code == 200


def test_headers_that_arrive_too_slowly_are_rejected(limited: httpx2.Client) -> None:
    status, problem = talk(limited, GET)
    assert (status, problem["title"]) == (408, "The request took too long")


def test_body_that_arrives_too_slowly_is_rejected(limited: httpx2.Client) -> None:
    status, problem = talk(limited, POST + b"Content-Length: 100\r\n\r\n{")
    assert status == 408
    assert problem["detail"].startswith("1 bytes of the body arrived within ")


def test_problem_can_be_read_by_a_client_that_is_still_sending(limited: httpx2.Client) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\n'
    head = b"POST /v1/datasets HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    with connected(limited) as connection:
        connection.sendall(head + b"Content-Length: 3000000\r\n\r\n" + part)
        connection.recv(1, socket.MSG_PEEK)  # the answer is there
        for _ in range(20):
            time.sleep(0.01)  # a connection that was closed at once would be reset by now
            connection.sendall(bytes(100_000))
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 422 ")
    assert b"file: unknown field" in answer


def test_body_that_arrives_at_the_minimum_speed_is_accepted(patient: Settings, serve: Serve, tmp_path: Path) -> None:
    settings = patient.model_copy(update={"root": tmp_path, "body_timeout_s": 0.5, "min_body_bytes_per_s": 1})
    with serve(settings) as api, connected(api) as connection:
        connection.sendall(POST + b"Content-Length: 8000\r\n\r\n" + b" " * 7998)
        time.sleep(1.5)
        connection.sendall(b"{}")
        assert read_until(connection, b"\r\n").startswith(b"HTTP/1.1 422 ")


def test_connection_without_a_request_is_closed(limited: httpx2.Client) -> None:
    with connected(limited) as used:
        assert is_alive(used)
        with connected(limited) as connection:
            assert read_all(connection) == read_all(used) == b""


def test_client_that_reads_nothing_is_disconnected(
    limited: httpx2.Client, quick: Settings, queued_in: Callable[[Settings], str]
) -> None:
    job = queued_in(quick)
    big = quick.run_dir(job) / "big.bin"
    big.parent.mkdir(parents=True)
    with big.open("wb") as file:
        file.truncate(64 << 20)
    with connected(limited) as connection:
        connection.sendall(f"GET /v1/jobs/{job}/artifacts/big.bin HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait_until(lambda: exceeded(limited, "reading_time") == 1, "the server to give up")
        assert len(read_all(connection)) < 64 << 20


def test_request_that_is_not_http_is_a_problem(limited: httpx2.Client) -> None:
    status, problem = talk(limited, b"\x16\x03\x01 hello\r\n\r\n")
    assert (status, problem["title"]) == (400, "Not HTTP")


def test_limits_that_were_exceeded_are_logged_but_not_each_time(
    limited: httpx2.Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LOG_EVERY_S", 3600.0)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            talk(limited, b"\x16\x03\x01 hello\r\n\r\n")
    assert len([record for record in caplog.records if "not valid HTTP" in record.message]) <= 1
    assert exceeded(limited, "syntax") >= 5


def test_one_client_cannot_open_more_connections_than_allowed(patient: Settings, serve: Serve, tmp_path: Path) -> None:
    update = {"root": tmp_path, "max_connections_per_client": 5}
    with serve(patient.model_copy(update=update)) as api, ExitStack() as stack:
        assert api.get("/v1/jobs").status_code == 200
        others = [stack.enter_context(connected(api)) for _ in range(4)]
        status, problem = talk(api, b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (status, problem["title"]) == (503, "Too many connections")
        with connected(api) as probe:  # so that a busy service is not restarted
            assert is_alive(probe)
        assert api.get("/v1/jobs").status_code == 200
        others.pop().close()
        assert is_alive(others[0])


def test_trusted_proxy_may_open_more_connections_than_one_client(
    patient: Settings, serve: Serve, tmp_path: Path
) -> None:
    update = {"root": tmp_path, "max_connections_per_client": 2, "trusted_proxies": ("127.0.0.0/8",)}
    with serve(patient.model_copy(update=update)) as api, ExitStack() as stack:
        for connection in [stack.enter_context(connected(api)) for _ in range(6)]:
            assert is_alive(connection)
        assert api.get("/v1/jobs").status_code == 200
        assert exceeded(api, "connections_of_client") == 0


def test_connection_that_is_idle_for_longest_makes_room(patient: Settings, serve: Serve, tmp_path: Path) -> None:
    with serve(patient.model_copy(update={"root": tmp_path, "max_connections": 4})) as api, ExitStack() as stack:
        first, *others = [stack.enter_context(connected(api)) for _ in range(4)]
        assert api.get("/v1/jobs").status_code == 200
        assert read_all(first) == b""
        for other in others:
            assert is_alive(other)
        assert exceeded(api, "connections") == 1


def test_connections_leave_files_for_everything_else(quick: Settings) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (600, before[1]))
        assert Connections(quick).maximum == 600 - 256
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        assert Connections(quick).maximum == 128
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert Connections(quick.model_copy(update={"max_connections": 10})).maximum == 10


def exceeded(api: httpx2.Client, limit: str) -> float:
    name = f'pyramidion_connection_limits_exceeded_total{{limit="{limit}"}}'
    # Not on a connection of an earlier request, which the server may close at this moment.
    metrics = api.get("/metrics", headers={"Connection": "close"}).text
    return next(float(line.split()[1]) for line in metrics.splitlines() if line.startswith(name))


@pytest.fixture
def queued_in(document: dict[str, Any]) -> Callable[[Settings], str]:
    """Queue a job in the store of settings."""

    def queue(settings: Settings) -> str:
        engine = open_database(settings.url_of_database)
        job, _ = JobStore(engine).submit(NewJob(name="shapes", config=document, priority=0, cpus=1, gpus=0))
        engine.dispose()
        return job.id

    return queue
