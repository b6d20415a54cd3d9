"""Requests that are rejected before they reach a route."""

import json
import socket
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx2
import pytest

from service.api.limits import _object
from service.rest.problems import MAX_ERRORS
from service.settings import Settings
from tests.service.waiting import TIMEOUT_S

JSON = {"Content-Type": "application/json"}


def is_problem(answer: httpx2.Response) -> bool:
    """Return whether a response is an RFC 9457 problem with its own status."""
    body = answer.json()
    return (
        answer.headers["content-type"] == "application/problem+json"
        and body["status"] == answer.status_code
        and bool(body["title"] and body["detail"])
    )


def test_errors_of_the_framework_are_problems(shared_api: httpx2.Client) -> None:
    for method, path, status in (
        ("GET", "/nothing", 404),
        ("GET", "/v1/nothing", 404),
        ("PUT", "/v1/jobs", 405),
        ("DELETE", "/livez", 405),
    ):
        answer = shared_api.request(method, path)
        assert answer.status_code == status
        assert is_problem(answer)
    answer = shared_api.put("/v1/jobs")
    assert answer.headers["allow"] == "GET, POST"
    assert answer.json()["detail"] == "/v1/jobs does not support PUT; it supports GET, POST"


class CountedName(str):
    """A key of a JSON object that counts comparisons with other keys."""

    num_comparisons = 0

    def __eq__(self, other: object) -> bool:
        CountedName.num_comparisons += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_search_for_a_repeated_key_takes_linear_time() -> None:
    names = [CountedName(number) for number in range(2000)]
    pairs = [(name, 0) for name in [*names, CountedName("1999")]]
    with pytest.raises(ValueError, match="'1999' is repeated"):
        _object(pairs)
    assert CountedName.num_comparisons < 10 * len(pairs)


def test_problem_lists_a_limited_number_of_invalid_values(shared_api: httpx2.Client) -> None:
    unknown = {f"key{number}": number for number in range(5000)}
    for body in ({"config": {}, **unknown}, {"config": {**unknown}}):
        answer = shared_api.post("/v1/jobs", json=body)
        assert (answer.status_code, is_problem(answer)) == (422, True)
        assert len(answer.json()["errors"]) == MAX_ERRORS
        assert answer.json()["detail"] == "more than 100 values are invalid, see the first ones in errors"


def test_internal_error_reveals_no_details(
    api: httpx2.Client, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite3.connect(settings.root / "service.db") as database:
        database.execute("ALTER TABLE jobs RENAME TO gone")
    answer = api.get("/v1/jobs")
    assert (answer.status_code, is_problem(answer)) == (500, True)
    assert not any(word in answer.text.lower() for word in ("sql", "traceback", "jobs", str(settings.root)))
    (record,) = (record for record in caplog.records if record.exc_info)
    assert record.getMessage() == f"request {answer.headers['x-request-id']} failed"
    assert 'pyramidion_http_requests_total{method="GET",route="/v1/jobs",status="500"} 1.0' in api.get("/metrics").text


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1.example.org", "localhost.example.org:80", "", "[::2]", "["])
def test_host_other_than_the_loopback_is_rejected(shared_api: httpx2.Client, host: str) -> None:
    answer = shared_api.get("/livez", headers={"Host": host})
    assert (answer.status_code, is_problem(answer)) == (400, True)


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/v1/jobs?statuss=running", "did you mean 'status'"),
        ("/v1/jobs/0123/results?foo=bar", "this path has no query parameters"),
        ("/v1/models?limit=3", "unknown"),
        ("/v1/catalog/backbones?foo=bar&limit=1", "unknown"),
        ("/v1/capabilities?foo=bar", "unknown"),
        ("/v1/jobs?status=paused", "query parameter 'status': got 'paused'"),
    ],
)
def test_unusable_query_parameter_is_rejected(shared_api: httpx2.Client, path: str, hint: str) -> None:
    answer = shared_api.get(path)
    assert (answer.status_code, is_problem(answer)) == (422, True)
    assert hint in answer.json()["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("path", "repeated"),
    [
        ("/v1/jobs?limit=1&limit=2", {"limit"}),
        ("/v1/jobs?status=running&status=queued&name=a&limit=1&name=a", {"name"}),
        ("/v1/jobs/x/events?after=1&after=2&wait=0&wait=0", {"after", "wait"}),
        ("/v1/datasets?cursor=a&cursor=b", {"cursor"}),
    ],
)
def test_repeated_value_of_a_parameter_with_a_single_value_is_rejected(
    shared_api: httpx2.Client, path: str, repeated: set[str]
) -> None:
    answer = shared_api.get(path)
    assert (answer.status_code, is_problem(answer)) == (422, True)
    details = {error["detail"] for error in answer.json()["errors"]}
    assert details == {
        f"query parameter {name!r}: got 2 values, of which only one can be used; send it once" for name in repeated
    }


def test_parameter_with_several_values_may_be_repeated(shared_api: httpx2.Client) -> None:
    answer = shared_api.get("/v1/jobs?status=failed&status=cancelled&kind=fit&kind=batch_prediction&limit=1")
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [("/v1/jobs?name=%00", 400), ("/v1/jobs/%00", 404), ("/v1/jobs/x/artifacts/a%00", 404), ("/v1/models/a%00b", 404)],
)
def test_url_with_a_nul_character_is_rejected(shared_api: httpx2.Client, path: str, status: int) -> None:
    answer = shared_api.get(path)
    assert (answer.status_code, is_problem(answer)) == (status, True)
    assert "%00" in answer.json()["detail"]


def test_probes_may_have_parameters_of_their_own(shared_api: httpx2.Client) -> None:
    assert shared_api.get("/livez?verbose").status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8000", "LOCALHOST", "[::1]:80", "[::1]"])
def test_every_name_of_the_loopback_is_accepted(shared_api: httpx2.Client, host: str) -> None:
    assert shared_api.get("/livez", headers={"Host": host}).status_code == 200


def test_foreign_web_page_cannot_change_anything(shared_api: httpx2.Client) -> None:
    own = str(shared_api.base_url).rstrip("/")
    # Another port or another name is another site, also on this machine.
    others = ("http://localhost:3000", "http://127.0.0.1", own.replace("127.0.0.1", "localhost"), f"{own}0", own[:-1])
    for origin in ("https://example.org", "null", "", "http://[", "file://", *others):
        answer = shared_api.post("/v1/jobs/x/cancel", headers={"Origin": origin})
        assert (answer.status_code, is_problem(answer)) == (403, True)
        assert shared_api.get("/livez", headers={"Origin": origin}).status_code == 200
    assert shared_api.post("/v1/jobs/x/cancel", headers={"Origin": own}).status_code == 404


def test_host_names_and_origins_are_settings(
    serve: Callable[[Settings], AbstractContextManager[httpx2.Client]], settings: Settings
) -> None:
    more = {
        "host": "127.0.0.2",
        "allowed_hosts": ("Pyramidion.example.org",),
        "allowed_origins": ("http://localhost:3000",),
    }
    with serve(settings.model_copy(update=more)) as api:
        for host in ("pyramidion.example.org", "PYRAMIDION.example.org:8443", "localhost", "127.0.0.2:80"):
            assert api.get("/livez", headers={"Host": host}).status_code == 200
        answer = api.get("/livez", headers={"Host": "example.org"})
        assert (answer.status_code, "PYRAMIDION_ALLOWED_HOSTS" in answer.json()["detail"]) == (400, True)
        named = {"Host": "pyramidion.example.org"}  # behind a proxy with TLS
        for origin, status in (
            ("https://pyramidion.example.org", 404),
            ("http://localhost:3000", 404),
            ("https://pyramidion.example.org:444", 403),
            ("http://localhost:3001", 403),
        ):
            answer = api.post("/v1/jobs/x/cancel", headers={**named, "Origin": origin})
            assert answer.status_code == status, origin


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/xml", "x"]
)
def test_body_with_another_content_type_is_rejected(
    shared_api: httpx2.Client, document: dict[str, Any], content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = shared_api.post("/v1/jobs", content=json.dumps({"config": document}), headers=headers)
    assert (answer.status_code, is_problem(answer)) == (415, True)


def test_content_type_may_include_the_encoding(shared_api: httpx2.Client, document: dict[str, Any]) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert shared_api.post("/v1/jobs", content=json.dumps({"config": document}), headers=headers).status_code == 202


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"config": NaN}',
        b'{"config": {"a": Infinity}}',
        b'{"config": {"a": 1e999}}',
        b'{"config": {"a": ' + b"9" * 5000 + b"}}",
        b'{"config": {"a": "\\ud800"}}',
        b'{"config": {"\\udfff": 1}}',
        b'{"config": {}, "config": {"name": "a"}}',
        b'{"config": {"a": [{"b": 1, "c": 2, "b": 3}]}}',
        b"[]",
        b"null",
        b'"text"',
        b'{"config": []}',
        b'{"config": {}, "resources": {"timeout_s": ' + b"9" * 400 + b"}}",
        b'{"config": {}, "resources": {"cpus": ' + b"9" * 400 + b"}}",
        b'{"config": {}, "priority": 101, "who": 1}',
        b"[" * 100_000,
        b'{"config": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
        b'{"config": ' + b"[" * 200 + b"]" * 200 + b"}",
    ],
    ids=range(21),
)
def test_invalid_json_body_is_rejected(shared_api: httpx2.Client, body: bytes) -> None:
    answer = shared_api.post("/v1/jobs", content=body, headers=JSON)
    assert answer.status_code in (400, 422)
    assert is_problem(answer)


def test_repeated_key_is_named(shared_api: httpx2.Client) -> None:
    answer = shared_api.post("/v1/jobs", content=b'{"config": {"name": "a", "name": "b"}}', headers=JSON)
    assert (answer.status_code, is_problem(answer)) == (400, True)
    assert "the key 'name' is repeated" in answer.json()["detail"]


def test_body_with_too_large_a_length_is_rejected_before_it_is_read(
    shared_api: httpx2.Client, shared_settings: Settings
) -> None:
    answer = shared_api.post("/v1/jobs", content=b" " * (shared_settings.max_json_bytes + 1), headers=JSON)
    assert (answer.status_code, is_problem(answer)) == (413, True)


def test_body_that_becomes_too_large_is_rejected_while_streaming(
    shared_api: httpx2.Client, shared_settings: Settings
) -> None:
    port = shared_api.base_url.port
    assert port is not None
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        connection.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        # The end is never sent: the limit must apply before it.
        for _ in range(shared_settings.max_json_bytes // 0x10000 + 1):
            connection.sendall(chunk)
        with connection.makefile("rb") as answer:
            assert answer.readline().startswith(b"HTTP/1.1 413 ")


def test_invalid_length_is_a_bad_request(shared_api: httpx2.Client) -> None:
    port = shared_api.base_url.port
    assert port is not None
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        connection.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: x\r\n\r\n{}"
        )
        with connection.makefile("rb") as answer:
            assert answer.readline().startswith(b"HTTP/1.1 400 ")
