"""The log line and the id of each request."""

import asyncio
import json
import logging
import re
import threading
from io import StringIO
from typing import Any

import httpx2
import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from service.addresses import TrustedProxies
from service.api.log_writer import MAX_LINES, LogWriter
from service.api.metrics import UNKNOWN_ROUTE, Metrics
from service.api.request_log import RequestLog
from service.settings import Settings
from tests.service.api.servers import serving
from tests.service.waiting import wait_until

LOGGER = "service.requests"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log with the lines of requests."""
    caplog.set_level(logging.INFO, LOGGER)
    return caplog


def logged(log: pytest.LogCaptureFixture, *answers: httpx2.Response) -> list[dict[str, Any]]:
    """Return the lines of requests. A line is written after the client has its answer, in this test or the next."""
    ids = {answer.headers["x-request-id"] for answer in answers}

    def found() -> list[dict[str, Any]]:
        lines = [json.loads(line.getMessage()) for line in list(log.records) if line.name == LOGGER]
        return [line for line in lines if line["request"] in ids]

    # The line of the last answer is the last one.
    last = answers[-1].headers["x-request-id"]
    wait_until(lambda: last in [line["request"] for line in found()], "the last line")
    return found()


def test_request_is_one_line(shared_api: httpx2.Client, log: pytest.LogCaptureFixture) -> None:
    answer = shared_api.get("/v1/jobs/0123?secret=s3cret", headers={"Authorization": "Bearer t0ken"})
    (line,) = logged(log, answer)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert 0 < line.pop("ms") < 60_000
    assert line == {
        "request": answer.headers["x-request-id"],
        "client": "127.0.0.1",
        "principal": "local",
        "method": "GET",
        "route": "/v1/jobs/{job_id}",
        "status": 422,
        "bytes": len(answer.content),
    }


def test_client_behind_a_trusted_proxy_is_logged_and_no_other_header_is_believed(
    settings: Settings, log: pytest.LogCaptureFixture
) -> None:
    headers = {"X-Forwarded-For": "203.0.113.9"}
    for proxies, client in (((), "127.0.0.1"), (("10.0.0.0/8",), "127.0.0.1"), (("127.0.0.1",), "203.0.113.9")):
        with serving(settings.model_copy(update={"trusted_proxies": proxies})) as api:
            (line,) = logged(log, api.get("/v1/jobs", headers=headers))
        assert line["client"] == client


def test_line_contains_no_path_query_or_header(shared_api: httpx2.Client, log: pytest.LogCaptureFixture) -> None:
    headers = {"Authorization": "Bearer s3cret", "X-Request-ID": "s3cret\tx", "Cookie": "s3cret"}
    first = shared_api.get("/s3cret?s3cret=1", headers=headers)
    second = shared_api.post("/v1/jobs?s3cret=1", json={"s3cret": 1}, headers=headers)
    assert [line["route"] for line in logged(log, first, second)] == ["(none)", "/v1/jobs"]
    assert "s3cret" not in str([line.getMessage() for line in log.records])


def test_probes_are_not_logged(shared_api: httpx2.Client, log: pytest.LogCaptureFixture) -> None:
    answers = [shared_api.get(path) for path in ("/livez", "/readyz", "/metrics", "/nothing")]
    assert [line["route"] for line in logged(log, *answers)] == ["(none)"]


@pytest.mark.parametrize("sent", ["abc-1.2_3", "A" * 64])
def test_well_formed_id_of_the_client_is_kept(shared_api: httpx2.Client, sent: str) -> None:
    assert shared_api.get("/nothing", headers={"X-Request-ID": sent}).headers["x-request-id"] == sent


@pytest.mark.parametrize("sent", ["", "A" * 65, "a b", 'a"b', "ä"])
def test_malformed_id_is_replaced(shared_api: httpx2.Client, sent: str) -> None:
    found = shared_api.get("/livez", headers={b"X-Request-ID": sent.encode()}).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{16}", found)


def test_log_that_nobody_reads_holds_up_nothing() -> None:
    gate, stream = threading.Event(), StringIO()

    class Stuck(StringIO):
        def write(self, text: str) -> int:
            gate.wait()
            return stream.write(text)

    writer = LogWriter(Stuck())
    for number in range(MAX_LINES + 10):
        writer.emit(logging.makeLogRecord({"msg": f"line {number}"}))
    assert 0 < writer.num_dropped <= 10
    gate.set()
    wait_until(lambda: f"line {MAX_LINES - 1}\n" in stream.getvalue(), "the lines")
    assert re.search(r"api: \d+ log lines were dropped", stream.getvalue())
    writer.finish()


def test_request_whose_client_left_before_the_response_is_counted() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise ClientDisconnect

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError(f"nobody can read {message}")

    metrics = Metrics()
    scope = {"type": "http", "method": "POST", "headers": []}
    asyncio.run(RequestLog(application, metrics, TrustedProxies([]))(scope, receive, send))
    sample = f'pyramidion_http_requests_total{{method="{UNKNOWN_ROUTE}",route="{UNKNOWN_ROUTE}",status="499"}} 1.0'
    assert sample in metrics.text().decode()
