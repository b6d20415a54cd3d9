"""The whole story in a real browser, as somebody who never reads JSON, on a service that needs a key."""

import re
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import psutil
import pytest
import yaml

from tests.rest_story import QUICK, picture, served, zipped_data
from tests.service.web.browsing import Tab, narrow_and_dark, opened_tab

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
LIMIT_MS = 300_000.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of a service, and its key."""
    with served(tmp_path_factory.mktemp("journey")) as address_and_key:
        yield address_and_key


def merged(base: Any, over: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}


def uploaded(url: str, key: str) -> dict[str, Any]:
    """Upload a small data set and return it with its drafted document."""
    headers = {"Authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=url, headers=headers, timeout=60) as client:
        files = {"archive": ("shapes.zip", zipped_data())}
        address = client.post("/v1/datasets", data={"name": "shapes"}, files=files).headers["location"]
        while (dataset := client.get(address).json())["status"] == "checking":
            time.sleep(0.2)
    return dict(dataset)


def kill_api() -> None:
    """Kill the API process of the service that this process has started; its parent replaces it."""
    for child in psutil.Process().children(recursive=True):
        if "service.api.process" in child.cmdline():
            child.kill()
            return
    raise AssertionError("no API process runs")


def test_reader_submits_a_job_and_watches_it_to_its_end(service: tuple[str, str], tab: Tab) -> None:
    url, key = service
    dataset = uploaded(url, key)
    tab.open(f"{url}/?status=queued")
    page = tab.page
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{url}/?status=queued")

    # The drafted document is checked and submitted.
    tab.open(f"{url}/jobs/new?dataset={dataset['reference']}")
    page.get_by_label("Document in YAML or JSON").fill("name: [")
    page.get_by_role("button", name="Submit", exact=True).click()
    page.get_by_text("The document cannot be read").wait_for()
    document = yaml.safe_dump(merged(dataset["document"], QUICK))
    page.get_by_label("Document in YAML or JSON").fill(document)
    page.get_by_role("button", name="Submit", exact=True).click()
    page.wait_for_url(re.compile(r"/jobs/[0-9a-f]{12}$"), timeout=LIMIT_MS)

    # It is watched without reloading, also while the API is killed and replaced.
    tab.open(url)
    page.locator(".jobs .status.running, .jobs .status.finalizing").first.wait_for(timeout=LIMIT_MS)
    tab.expects_failed_requests = True
    kill_api()
    page.locator(".jobs .status.succeeded").first.wait_for(timeout=LIMIT_MS)
    page.get_by_text("No connection").wait_for(state="hidden")
    tab.expects_failed_requests = False

    # Its results: the worst image, and another threshold.
    (job,) = page.locator("tr[id^=job-]").evaluate_all("rows => rows.map(row => row.id.slice(4))")
    tab.open(f"{url}/jobs/{job}/results")
    tab.follow(page.locator("main a[href*='/results/']").first)
    page.locator("button.picture").first.click()
    assert page.locator("#large img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
    page.get_by_role("button", name="Close").click()
    page.get_by_label("Threshold", exact=True).first.fill("0.2")
    page.get_by_text("Above 0.20").wait_for()

    # Its model: a prediction for a file, and what it depends on.
    tab.open(f"{url}/models/shapes/1")
    file = {"name": "one.png", "mimeType": "image/png", "buffer": picture(1)}
    page.get_by_label("Drop an image here").set_input_files([file])
    page.get_by_text(re.compile("Version 1 on torch")).wait_for(timeout=LIMIT_MS)
    page.locator("#try-threshold").fill("0")
    page.get_by_role("button", name="Explain").first.click()
    page.get_by_alt_text("The image with the parts").wait_for(timeout=LIMIT_MS)
    page.get_by_role("button", name="Close").click()

    # Every page works in a small window, in the other theme, and for everybody.
    state = page.context.storage_state()
    task = page.request.get(f"{url}/v1/jobs/{job}/results").json()["tasks"].popitem()[0]
    faults: dict[str, list[str]] = {}
    with opened_tab(page.context.browser, storage_state=state, **narrow_and_dark()) as small:
        for path in (
            "/", "/jobs/new", f"/jobs/{job}", f"/jobs/{job}/results", f"/jobs/{job}/results/{task}", "/models",
            "/models/shapes", "/models/shapes/1", "/datasets", f"/datasets/{dataset['reference'].replace('@', '/')}",
            f"/compare?jobs={job}", "/sweeps", "/system",
        ):  # fmt: skip
            small.open(f"{url}{path}")
            small.page.wait_for_load_state("networkidle")
            faults[path] = [*small.violations(), *small.too_wide()]
        assert {path: found for path, found in faults.items() if found} == {}

    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{url}/login")
    tab.open(f"{url}/")
    page.wait_for_url(f"{url}/login?next=*")
