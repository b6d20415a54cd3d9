"""A tab of a real browser that accepts no errors of pages."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe

from tests.service.waiting import TIMEOUT_S

BUSY = 503
FAILED_REQUEST = re.compile(r"Failed to load|Response Status Error Code|htmx:(sendError|afterRequest)")
BUSY_ANSWER = re.compile(rf"status of {BUSY}|Error Code {BUSY}")
"""Messages of the browser and of htmx about a request that has failed, and about an answer of a busy machine."""
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}}

TOO_WIDE = """() => {
  if (document.documentElement.scrollWidth <= window.innerWidth) return [];
  const isTooWide = (one) => one.getBoundingClientRect().right > window.innerWidth && !one.closest(".scroll");
  return [...document.querySelectorAll("main *")].filter(isTooWide).map((one) => one.outerHTML.slice(0, 200));
}"""


class Tab:
    """A tab that collects what a page reports as an error: of its scripts, of the policy, and of its requests.

    Attributes:
        page: the page of Playwright.
        expects_failed_requests: True while the server is killed, or a request is meant to fail.
    """

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        self.expects_failed_requests = False
        page.on("console", self._keep)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: dialog.accept())

    def open(self, url: str) -> None:
        """Open a page; again, as its reader would, while a busy machine answers that it needs more time."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.page.goto(url).status == BUSY and time.monotonic() < deadline:
            pass

    def follow(self, link: Any) -> None:
        """Click on a link, and wait until its page is complete with its scripts."""
        url = link.evaluate("link => link.href")
        link.click()
        self.page.wait_for_url(url)

    def violations(self) -> list[str]:
        """Return what the page has wrong for people with disabilities, by axe-core."""
        found = Axe().run(self.page, options=RULES).response["violations"]
        return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]

    def too_wide(self) -> list[str]:
        """Return the elements for which the page scrolls sideways."""
        return list(self.page.evaluate(TOO_WIDE))

    def _keep(self, message: Any) -> None:
        is_busy = BUSY_ANSWER.search(message.text) is not None
        is_expected = FAILED_REQUEST.search(message.text) and (self.expects_failed_requests or is_busy)
        if message.type == "error" and not is_expected:
            self.errors.append(f"{message.text} {message.location}")


@contextmanager
def opened_tab(browser: Any, **options: Any) -> Iterator[Tab]:
    """Open a tab with a session of its own, and check at its end that no page had errors."""
    context = browser.new_context(**{"timezone_id": "Asia/Kolkata", "locale": "en-GB", **options})
    context.set_default_timeout(1000 * TIMEOUT_S)
    tab = Tab(context.new_page())
    try:
        yield tab
        assert not tab.errors, tab.errors
    finally:
        context.close()


def narrow_and_dark() -> dict[str, Any]:
    """Return the options of a small window in the dark theme."""
    return {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"}
