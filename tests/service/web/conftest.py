"""The web page over a real store: rendered in this process, or in a browser for tests marked `integration`."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from service.settings import Settings
from service.web.session import COOKIE, TOKEN_HEADER, token_of
from tests.service.api.servers import serving
from tests.service.dataset_archives import write_dataset

if TYPE_CHECKING:
    from tests.service.web.browsing import Tab

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
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
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed; Debian's package chromium has one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # The sandbox of the browser needs privileges that containers lack; it only opens pages of these tests.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Any) -> "Iterator[Tab]":
    """A tab of the browser."""
    from tests.service.web.browsing import opened_tab

    with opened_tab(browser) as tab:
        yield tab
