"""Sessions of the web page on a server that needs keys."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from service.keys.use_cases import Keys
from service.principal import LOCAL_USER
from service.scopes import Scope
from service.store.api_keys import KeyStore
from service.store.database import open_database
from service.web.session import COOKIE, TOKEN_HEADER, token_of
from tests.service.api.servers import serving
from tests.service.web.conftest import HTML, settings_below


@pytest.fixture(scope="module")
def key_and_site(tmp_path_factory: pytest.TempPathFactory, migrated_path: Path) -> Iterator[tuple[str, httpx2.Client]]:
    """A key that may read jobs, and a client without it."""
    settings = settings_below(tmp_path_factory.mktemp("closed"), migrated_path)
    engine = open_database(settings.url_of_database)
    _, key = Keys(KeyStore(engine)).create(LOCAL_USER, "reader", [Scope.JOBS_READ])
    engine.dispose()
    with serving(settings) as client:
        client.headers.update(HTML)
        yield key, client


@pytest.fixture
def key(key_and_site: tuple[str, httpx2.Client]) -> str:
    return key_and_site[0]


@pytest.fixture
def closed(key_and_site: tuple[str, httpx2.Client]) -> httpx2.Client:
    """A client without a session."""
    key_and_site[1].cookies.clear()
    return key_and_site[1]


def test_page_without_a_key_leads_to_the_page_that_asks_for_one(closed: httpx2.Client) -> None:
    answer = closed.get("/?status=failed")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2F%3Fstatus%3Dfailed")
    assert closed.get("/v1/jobs").status_code == 401
    part = closed.get("/", headers={"HX-Request": "true", "HX-Current-URL": f"{closed.base_url}/?kind=fit"})
    assert (part.status_code, part.headers["hx-redirect"]) == (401, "/login?next=/%3Fkind%3Dfit")
    assert 'name="key"' in closed.get("/login").text


def test_key_becomes_a_session_that_scripts_and_other_sites_cannot_use(closed: httpx2.Client, key: str) -> None:
    answer = closed.post("/login", data={"key": key, "next": "/?kind=fit"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (204, "/?kind=fit")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie
    page = closed.get("/")
    assert page.status_code == 200
    assert "<bdi>reader</bdi>" in page.text
    assert key not in page.text
    refused = closed.delete("/login")
    assert (refused.status_code, COOKIE in refused.headers.get("set-cookie", "")) == (204, True)


def test_session_cookie_is_only_sent_encrypted_behind_a_proxy_with_tls(closed: httpx2.Client, key: str) -> None:
    answer = closed.post("/login", data={"key": key}, headers={"X-Forwarded-Proto": "https"})
    assert "Secure" in answer.headers["set-cookie"]


def test_session_has_the_scopes_of_its_key(closed: httpx2.Client, key: str) -> None:
    session = {"Cookie": f"{COOKIE}={key}", TOKEN_HEADER: token_of(key)}
    answer = closed.post("/v1/jobs/unknown/cancel", headers=session)
    assert (answer.status_code, answer.json()["title"]) == (403, "The key lacks a scope")


def test_invalid_key_is_refused(closed: httpx2.Client) -> None:
    answer = closed.post("/login", data={"key": "pyr_wrong"})
    assert "The key is not valid" in answer.text
    assert "pyr_wrong" not in answer.headers.get("set-cookie", "")


@pytest.mark.parametrize(
    "address",
    ["https://example.com", "//example.com", "/\\example.com", "/\t/example.com", "/\n/example.com", "/\u00e9\u4e00"],
)
def test_login_leads_only_to_pages_of_this_server(address: str, closed: httpx2.Client, key: str) -> None:
    assert 'name="next" value="/"' in closed.get("/login", params={"next": address}).text
    answer = closed.post("/login", data={"key": key, "next": address})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (204, "/")


@pytest.mark.parametrize("other", ['theme={"dark": true}', "a,b=c d", "=", "\xff\xfe=\x80", "x" * 2000])
def test_session_is_found_beside_cookies_of_other_servers_of_the_host(
    other: str, closed: httpx2.Client, key: str
) -> None:
    cookies = f"{other}; {COOKIE}={key}; last={other}".encode("latin-1")
    assert closed.get("/v1/jobs", headers={b"Cookie": cookies}).status_code == 200


@pytest.mark.parametrize("content", [b"\xff\xfe", b'"\\377\\000', b"local-\xe9", b"", b"pyr_" + b"9" * 4000])
def test_session_with_strange_bytes_is_none(content: bytes, closed: httpx2.Client) -> None:
    session = {b"Cookie": COOKIE.encode() + b"=" + content}
    assert closed.get("/v1/jobs", headers=session).status_code == 401
    assert closed.get("/login", headers=session).status_code == 200
    assert closed.post("/v1/jobs/unknown/cancel", headers=session).status_code == 401
