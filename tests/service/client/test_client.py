"""The client, if the other side is not a working service."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from pipelines.base.errors import ConfigError
from service.client.client import Client
from service.client.errors import ServiceError, ServiceUnreachable
from service.client.models import ModelsClient
from service.client.responses import dotted_field
from service.rest.schemas import ProblemField
from tests.http_server import handling


@pytest.fixture
def foreign_server() -> Iterator[str]:
    """Address of another kind of server, which responds to every request with a web page."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_missing = self.path.endswith("missing")
            self.send_response(404 if is_missing else 200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

    with handling(Page) as url:
        yield url


@pytest.mark.parametrize("job_id", ["any", "missing"])
def test_foreign_server_is_recognized(foreign_server: str, job_id: str) -> None:
    with Client(foreign_server) as client, pytest.raises(ServiceError, match="is it a Pyramidion service") as caught:
        client.job(job_id)
    assert caught.value.exit_code == 1


@dataclass
class Script:
    """A server with an answer for each request in turn; None closes the connection without one."""

    answers: list[tuple[int, str, str] | None]
    requests: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script([])

    class Scripted(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            script.requests.append(f"{self.command} {self.path}")
            found = script.answers.pop(0)
            self.close_connection = True
            if found is not None:
                status, content_type, body = found
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.end_headers()
                self.wfile.write(body.encode())

        def do_DELETE(self) -> None:
            self.do_GET()

    with handling(Scripted) as script.url:
        yield script


def problem(status: int) -> tuple[int, str, str]:
    body = {"title": "a title", "status": status, "detail": "a detail"}
    return status, "application/problem+json", json.dumps(body)


def test_job_is_followed_while_the_database_restarts(script: Script) -> None:
    data = {"from": "running", "to": "succeeded"}
    event = {"seq": 7, "time": "2026-01-01T00:00:00Z", "kind": "status", "attempt": 1, "epoch": 0, "step": 0}
    stream = f"id: 7\nevent: status\ndata: {json.dumps({**event, 'data': data})}\n\n"
    script.answers += [problem(503), problem(503), (200, "text/event-stream", stream)]
    with Client(script.url) as client:
        assert [found.seq for found in client.events("1")] == [7]
    assert script.requests == ["GET /v1/jobs/1/events"] * 3


def test_deletion_whose_answer_was_lost_has_succeeded(script: Script) -> None:
    script.answers += [None, problem(404), problem(404)]
    with ModelsClient(script.url) as client:
        client.delete_model("shapes")
        with pytest.raises(ServiceError, match="a detail"):
            client.delete_model("shapes")
    assert len(script.requests) == 3


@pytest.mark.parametrize("url", ["here", "ftp://x", "http://"])
def test_invalid_address_is_reported_with_the_variable(url: str) -> None:
    with pytest.raises(ConfigError, match=r"PYRAMIDION_URL: got .*write it as http://127.0.0.1:8000"):
        Client(url)


def test_unreachable_service_is_reported_in_one_line() -> None:
    with Client("http://127.0.0.1:9/") as client, pytest.raises(ServiceUnreachable) as caught:
        client.jobs()
    assert str(caught.value).startswith("no service answers at http://127.0.0.1:9 (")


@pytest.mark.parametrize("document", [{"name": float("nan")}, {"name": {1, 2}}, {"name": b"x"}])
def test_values_that_json_cannot_represent_are_not_sent(document: dict[str, Any]) -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(ConfigError, match="cannot be sent as JSON"):
        client.submit({"config": document})


@pytest.mark.parametrize(
    ("pointer", "field"),
    [
        ("/config/model/backbone/name", "model.backbone.name"),
        ("/config/data/sources/a~1b~0c/labels/0", "data.sources.a/b~c.labels.0"),
        ("/resources/cpus", "resources.cpus"),
        ("", ""),
    ],
)
def test_pointers_become_fields_of_the_document(pointer: str, field: str) -> None:
    assert dotted_field(ProblemField(pointer=pointer, detail="wrong")) == field


def test_logs_of_an_unreachable_service_are_one_error_line() -> None:
    with Client("http://127.0.0.1:9/") as client:
        for read in (client.log, client.follow_log):
            with pytest.raises(ServiceUnreachable, match="no service answers at"):
                next(read("any"))


def test_damaged_result_is_reported(foreign_server: str) -> None:
    with Client(foreign_server) as client, pytest.raises(ServiceError, match=r"is result.json of job any damaged\?"):
        client.results("any")
