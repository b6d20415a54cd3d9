"""The browser that tests and pictures of the web page use: Debian's package chromium, or another Chromium."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = f"none of {', '.join(NAMES)} is installed; Debian's package chromium has one"


def browser_path() -> str | None:
    """Return the program; None if none is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def running_browser() -> Iterator[Any]:
    """Start the browser and yield it as Playwright's object."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # The sandbox of the browser needs privileges that containers lack; it only opens pages of these tests.
        browser = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        yield browser
        browser.close()
