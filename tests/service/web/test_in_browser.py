"""Every page in a real browser: without errors, accessible, and no wider than a small window."""

from typing import Any

import httpx2
import pytest

from tests.service.web.browsing import narrow_and_dark, opened_tab

pytestmark = pytest.mark.integration
PAGES = (
    "/", "/jobs/new", "/login", "/docs", "/?status=bogus", "/models", "/datasets", "/compare", "/compare?jobs=a",
    "/system", "/sweeps",
)  # fmt: skip


@pytest.fixture(scope="module")
def job_in_the_list(site: httpx2.Client) -> str:
    """The id of a job that waits in the queue."""
    body = {"recipe": "finetune", "data": {"root": "shapes"}, "budget": "5m"}
    answer = site.post("/v1/jobs", json=body, headers={"Cookie": ""})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


@pytest.mark.parametrize("options", [{}, narrow_and_dark()], ids=["wide-light", "narrow-dark"])
def test_pages_are_accessible_and_fit_the_window(options: dict[str, Any], site: httpx2.Client, browser: Any) -> None:
    with opened_tab(browser, **options) as tab:
        for path in PAGES:
            tab.expects_failed_requests = "bogus" in path
            tab.open(f"{site.base_url}{path}")
            assert tab.violations() == [], path
            assert tab.too_wide() == [], path


def test_times_are_in_the_zone_of_the_reader(site: httpx2.Client, browser: Any, job_in_the_list: str) -> None:
    with opened_tab(browser) as tab:
        tab.open(str(site.base_url))
        assert "GMT+5:30" in tab.page.locator(f"#job-{job_in_the_list} time").inner_text()


def test_problem_of_an_update_disappears_with_the_next_one(site: httpx2.Client, browser: Any) -> None:
    with opened_tab(browser) as tab:
        tab.expects_failed_requests = True
        tab.open(str(site.base_url))
        # A proxy answers for a server that starts again.
        tab.page.route(
            lambda url: url.endswith(("/", "/?")), lambda route: route.fulfill(status=502, body="<h1>"), times=1
        )
        problem = tab.page.get_by_text("Status 502")
        problem.wait_for()
        problem.wait_for(state="hidden")


def test_part_that_updates_keeps_the_focus(site: httpx2.Client, browser: Any, job_in_the_list: str) -> None:
    with opened_tab(browser) as tab:
        tab.open(str(site.base_url))
        button = tab.page.locator(f"#job-{job_in_the_list} button")
        button.focus()
        with tab.page.expect_response(lambda answer: answer.url.endswith("/?") or answer.url.endswith("/")):
            pass
        tab.page.wait_for_timeout(200)
        assert button.evaluate("button => button === document.activeElement")
