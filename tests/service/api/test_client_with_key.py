"""The client of a service that requires keys."""

from pathlib import Path
from typing import Any

import httpx2
import pytest

from pipelines.base.errors import ConfigError
from service.cli import main
from service.client.client import Client
from service.client.errors import AccessDenied
from service.keys.use_cases import Keys
from service.principal import LOCAL_USER
from service.scopes import Scope
from service.settings import Settings
from service.store.api_keys import KeyStore
from service.store.database import open_database


@pytest.fixture
def url(api: httpx2.Client) -> str:
    return str(api.base_url).rstrip("/")


@pytest.fixture
def text(settings: Settings, url: str) -> str:
    """A key that may only read jobs."""
    keys = Keys(KeyStore(open_database(settings.url_of_database)))
    return keys.create(LOCAL_USER, "reader", [Scope.JOBS_READ])[1]


@pytest.fixture(autouse=True)
def without_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYRAMIDION_API_KEY", "PYRAMIDION_API_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_client_sends_the_key_of_the_environment_or_of_a_file(
    url: str, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYRAMIDION_API_KEY", text)
    with Client(url) as client:
        assert client.jobs() == []
    monkeypatch.delenv("PYRAMIDION_API_KEY")
    (tmp_path / "key").write_text(f"{text}\n")
    monkeypatch.setenv("PYRAMIDION_API_KEY_FILE", str(tmp_path / "key"))
    with Client(url) as client:
        assert client.jobs() == []


def test_missing_key_or_scope_is_explained(
    url: str, text: str, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with Client(url) as client, pytest.raises(AccessDenied, match="set PYRAMIDION_API_KEY, or PYRAMIDION_API_KEY_FILE"):
        client.jobs()
    monkeypatch.setenv("PYRAMIDION_API_KEY", text)
    with Client(url) as client, pytest.raises(AccessDenied, match="does not have the scope jobs:write"):
        client.submit({"config": document})
    monkeypatch.setenv("PYRAMIDION_URL", url)
    monkeypatch.setenv("PYRAMIDION_API_KEY", text[:-1])
    assert main(["jobs"]) == 1
    shown = capfd.readouterr()
    assert "requires an API key" in shown.err
    assert text[:-1] not in shown.err + shown.out


@pytest.mark.parametrize("content", ["", "two words", "schlüssel"])
def test_file_without_a_key_is_reported_without_its_content(
    content: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(content)
    monkeypatch.setenv("PYRAMIDION_API_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(ConfigError, match="PYRAMIDION_API_KEY_FILE: the ") as refused:
        Client("http://127.0.0.1:1")
    assert not content or content not in str(refused.value)
    monkeypatch.setenv("PYRAMIDION_API_KEY_FILE", str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match="No such file"):
        Client("http://127.0.0.1:1")
