"""Common parts of all pages: headers, the session, problems, and text of strangers."""

import hashlib
import re

import httpx2
import pytest

from service.settings import Settings
from service.web.session import COOKIE, TOKEN_HEADER, token_of
from service.web.static_files import FOLDER, static_files
from service.web.templating import TEMPLATES, duration, file_size, shown
from service.web.vendored import VENDORED


def test_page_loads_only_files_of_this_server_and_runs_nothing_inline(site: httpx2.Client) -> None:
    page = site.get("/")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; img-src 'self' blob:;")
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|https?://", page.text)
    for path in re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text):
        assert site.get(path).status_code == 200, path


def test_static_file_is_sent_again_only_if_it_has_changed(site: httpx2.Client) -> None:
    first = site.get("/static/style.css")
    assert (first.status_code, first.headers["content-type"]) == (200, "text/css; charset=utf-8")
    again = site.get("/static/style.css", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert site.get("/static/../page.py").status_code == 404


def test_vendored_files_are_those_of_their_packages() -> None:
    assert {name.removeprefix("vendor/") for name in static_files() if name.startswith("vendor/")} == {
        file.name for file in VENDORED
    }
    for file in VENDORED:
        assert hashlib.sha256((FOLDER / "vendor" / file.name).read_bytes()).hexdigest() == file.sha256, file.name


def test_change_in_a_session_needs_the_token_of_its_pages(site: httpx2.Client) -> None:
    page = site.get("/")
    session = page.cookies.get(COOKIE) or site.cookies[COOKIE]
    token = re.search(r'X-CSRF-Token": "(\w+)"', page.text)
    assert token is not None
    assert token[1] == token_of(session)
    cookie = {"Cookie": f"{COOKIE}={session}"}
    refused = site.post("/v1/jobs/unknown/cancel", headers=cookie)
    assert (refused.status_code, refused.json()["title"]) == (
        403,
        "The request does not come from a page of this server",
    )
    assert site.post("/v1/jobs/unknown/cancel", headers={**cookie, TOKEN_HEADER: token[1]}).status_code == 404


def test_part_that_updates_gets_a_problem_as_rest_has_it(site: httpx2.Client) -> None:
    answer = site.get("/jobs/unknown", headers={"HX-Request": "true", "HX-Target": "live"})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json()["title"] == "Job not found"


@pytest.mark.parametrize(
    "address",
    [
        "/jobs/new?dataset=shapes@1/thumbnails/0",
        "/jobs/new?dataset=shapes@1/report",
        "/jobs/new?dataset=shapes",
        "/compare?jobs=&jobs=x&jobs=y",
        "/compare?jobs=x/results&jobs=y",
        "/jobs/x%2Fresults",
        "/jobs/x/results/%3F%23%25%0D%0A%7F%C3%28",
        f"/jobs/x/results/{'y' * 3000}",
        "/sweeps/%00",
    ],
)
def test_address_with_unusual_characters_is_a_problem(address: str, site: httpx2.Client) -> None:
    answer = site.get(address)
    assert answer.status_code in (400, 404, 422)
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("media_type", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_form_that_is_too_large_is_refused(media_type: str, site: httpx2.Client, web_settings: Settings) -> None:
    content = b'--x\r\nContent-Disposition: form-data; name="key"; filename="a"\r\n\r\n'
    content += b"k" * web_settings.max_json_bytes
    answer = site.post("/login", content=content, headers={"Content-Type": media_type})
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")


@pytest.mark.parametrize("path", ["/", "/jobs/unknown", "/login", "/static/style.css"])
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_methods_that_pages_lack_are_refused(method: str, path: str, site: httpx2.Client) -> None:
    answer = site.request(method, path)
    assert (answer.status_code, "GET" in answer.headers["allow"]) == (405, True)


def test_problem_of_a_page_is_a_page(site: httpx2.Client) -> None:
    page = site.get("/?status=bogus")
    assert page.status_code == 422
    assert "The request is invalid" in page.text
    assert "content-security-policy" in page.headers


@pytest.mark.parametrize(
    ("hostile", "visible"),
    [("a\x1b[31mred\x07", "a\u241b[31mred\u2407"), ("\u202egnp.exe", "\ufffdgnp.exe"), ("a\u0085b", "a\ufffdb")],
)
def test_control_characters_are_shown_as_symbols(hostile: str, visible: str) -> None:
    assert shown(hostile) == visible
    assert TEMPLATES.from_string("<b>{{ name }}</b>").render(name=hostile) == f"<b>{visible}</b>"


def test_markup_in_names_is_shown_as_text() -> None:
    rendered = TEMPLATES.from_string('<b title="{{ name }}">{{ name }}</b>').render(name='"><script>alert(1)</script>')
    assert rendered.count("<script>") == 0
    assert "&lt;script&gt;" in rendered


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.6, "1 min"), (200, "3 min 20 s"), (3600, "1 h"), (90_000, "1 d 1 h")]
)
def test_durations_have_their_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_file_sizes_have_binary_units() -> None:
    assert [file_size(size) for size in (None, 17, 1536, 5 * 1024**3)] == [None, "17 B", "1.5 KiB", "5.0 GiB"]


def test_docs_page_lists_every_request(site: httpx2.Client) -> None:
    page = site.get("/docs").text
    document = site.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method in methods:
            assert f"<b>{method.upper()}</b> {path}" in page
