"""Pictures of the web page for docs/page.md: `python -m tests.page_pictures --url URL --out FOLDER`.

The service should have a job that has succeeded and a registered model, as after `make demo`. It needs a browser.
"""

import argparse
from pathlib import Path
from typing import Any

import httpx2

from tests.chromium import running_browser
from tests.service.web.browsing import opened_tab

SIZE = {"width": 1100, "height": 760}
PAGES = {
    "jobs": "/",
    "new_job": "/jobs/new",
    "job": "/jobs/{job}",
    "results": "/jobs/{job}/results/{task}",
    "compare": "/compare",
    "model": "/models/{model}/{version}",
    "datasets": "/datasets",
    "system": "/system",
}
"""Name of the picture and address of each page."""


def names(url: str) -> dict[str, Any]:
    """Return the job, the task and the model that the pictures show: the newest ones."""
    with httpx2.Client(base_url=url, timeout=60) as client:
        job = client.get("/v1/jobs", params={"status": "succeeded", "kind": "fit"}).json()["jobs"][0]["id"]
        tasks = client.get(f"/v1/jobs/{job}/results").json()["tasks"]
        detection = [name for name, task in tasks.items() if task["kind"] == "detection"]
        model = client.get("/v1/models").json()["models"][0]
    return {
        "job": job,
        "task": (detection or list(tasks))[0],
        "model": model["name"],
        "version": model["latest_version"],
    }


def main() -> None:
    """Save the pictures, light and dark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--out", type=Path, default=Path("docs/images/page"))
    parser.add_argument("--pages", nargs="+", default=list(PAGES), choices=PAGES)
    parser.add_argument("--themes", nargs="+", default=["light", "dark"], choices=["light", "dark"])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    shown = names(arguments.url)
    with running_browser() as browser:
        for theme in arguments.themes:
            with opened_tab(browser, viewport=SIZE, color_scheme=theme) as tab:
                for name in arguments.pages:
                    tab.open(f"{arguments.url}{PAGES[name].format(**shown)}")
                    tab.page.wait_for_load_state("networkidle")
                    tab.page.screenshot(path=arguments.out / f"{name}-{theme}.png")


if __name__ == "__main__":
    main()
