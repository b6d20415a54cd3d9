"""The web page over a real store: rendered in this process, or in a browser for tests marked `integration`."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from service.settings import Settings
from service.web.session import COOKIE, TOKEN_HEADER, token_of
from tests.chromium import MISSING, browser_path, running_browser
from tests.service.api.servers import serving
from tests.service.dataset_archives import write_dataset

if TYPE_CHECKING:
    from tests.service.web.browsing import Tab

HTML = {"Accept": "text/html"}


def settings_below(folder: Path, migrated_path: Path) -> Settings:
    """Return the settings of a service with two cores and a data root with one data set, `shapes`."""
    for name in ("service", "data"):
        (folder / name).mkdir()
    write_dataset(folder / "data" / "shapes")
    shutil.copy(migrated_path, folder / "service")
    return Settings(root=folder / "service", data_roots=(folder / "data",), cpus=2, gpus=0, port=0)


@pytest.fixture(scope="session")
def web_settings(tmp_path_factory: pytest.TempPathFactory, migrated_path: Path) -> Settings:
    """Settings of `site`."""
    return settings_below(tmp_path_factory.mktemp("web"), migrated_path)


@pytest.fixture(scope="session")
def site(web_settings: Settings) -> Iterator[httpx2.Client]:
    """A client of one application for all tests that only read, or make jobs of their own."""
    with serving(web_settings) as client:
        client.headers.update(HTML)
        yield client


@pytest.fixture
def change(site: httpx2.Client) -> dict[str, str]:
    """The header of a change in the session of `site`."""
    site.get("/login")
    return {TOKEN_HEADER: token_of(site.cookies[COOKIE])}


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A real browser; the test skips where none is installed."""
    if browser_path() is None:
        pytest.skip(MISSING)
    with running_browser() as browser:
        yield browser


@pytest.fixture
def tab(browser: Any) -> "Iterator[Tab]":
    """A tab of the browser."""
    from tests.service.web.browsing import opened_tab

    with opened_tab(browser) as tab:
        yield tab
