"""The client, where the other side is not what it should be."""

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pipelines.errors import ConfigError
from service.client.client import Client, _dotted
from service.client.errors import ServiceError, ServiceUnreachable
from service.rest.schemas import ProblemField


@pytest.fixture
def stranger() -> Iterator[str]:
    """The address of a server that is not ours: it answers everything with a page."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_missing = self.path.endswith("missing")
            self.send_response(404 if is_missing else 200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("job_id", ["any", "missing"])
def test_another_server_is_told_from_a_service(stranger: str, job_id: str) -> None:
    with Client(stranger) as client, pytest.raises(ServiceError, match="is it a Pyramidion service") as caught:
        client.job(job_id)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("url", ["here", "ftp://x", "http://"])
def test_an_invalid_url_names_the_variable(url: str) -> None:
    with pytest.raises(ConfigError, match=r"PYRAMIDION_URL: got .*write it as http://127.0.0.1:8000"):
        Client(url)


def test_nobody_is_told_in_one_line() -> None:
    with Client("http://127.0.0.1:9/") as client, pytest.raises(ServiceUnreachable) as caught:
        client.jobs()
    assert str(caught.value).startswith("no service answers at http://127.0.0.1:9 (")


@pytest.mark.parametrize("document", [{"name": float("nan")}, {"name": {1, 2}}, {"name": b"x"}])
def test_what_is_not_json_is_not_sent(document: dict[str, Any]) -> None:
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
def test_pointers_become_the_fields_of_the_document(pointer: str, field: str) -> None:
    assert _dotted(ProblemField(pointer=pointer, detail="wrong")) == field


def test_nobody_is_told_in_one_line_by_logs_too() -> None:
    with Client("http://127.0.0.1:9/") as client:
        for read in (client.log, client.follow_log):
            with pytest.raises(ServiceUnreachable, match="no service answers at"):
                next(read("any"))


def test_a_result_that_is_damaged_is_told(stranger: str) -> None:
    with Client(stranger) as client, pytest.raises(ServiceError, match=r"is result.json of job any damaged\?"):
        client.results("any")
