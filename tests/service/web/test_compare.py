"""The page that compares jobs."""

import httpx2
import pytest

from service.settings import Settings
from service.states import JobStatus
from service.store.database import open_database
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import NewJob
from tests.service.run_folders import write_classified_run
from tests.service.web.browsing import Tab

TRUTHS = "ab" * 10
HOSTILE = "<b>job</b>"


@pytest.fixture(scope="module")
def jobs(web_settings: Settings, site: httpx2.Client) -> list[str]:
    """Two finished jobs; the second one is right about every image, and has a hostile name."""
    engine = open_database(web_settings.url_of_database)
    leases = LeasedStore(engine, "tests")
    ids = []
    for name, predicted, rate in (("first", "a" * 20, 0.1), (HOSTILE, TRUTHS, 0.2)):
        config = {"model": {"optimizer": {"lr": rate, "name": HOSTILE}}}
        queued, _ = JobStore(engine).submit(NewJob(name=name, config=config, priority=0, cpus=1, gpus=0))
        job = leases.claim(queued.id, [])
        assert job is not None
        write_classified_run(web_settings.run_dir(job.id), TRUTHS, predicted)
        job = leases.move(job, JobStatus.RUNNING)
        leases.end_attempt(job, "succeeded", 0)
        leases.move(leases.move(job, JobStatus.FINALIZING), JobStatus.SUCCEEDED)
        ids.append(job.id)
    engine.dispose()
    return ids


def test_finished_jobs_can_be_chosen(site: httpx2.Client, jobs: list[str]) -> None:
    page = site.get("/compare").text
    assert all(f'name="jobs" value="{job_id}"' in page for job_id in jobs)
    assert HOSTILE not in page
    assert "1 job is chosen; choose 2 to 5." in site.get("/compare", params={"jobs": jobs[:1]}).text


def test_documents_are_shown_at_once_and_numbers_when_they_are_computed(site: httpx2.Client, jobs: list[str]) -> None:
    page = site.get("/compare", params={"jobs": jobs}).text
    query = "&amp;".join(f"jobs={job_id}" for job_id in jobs)
    assert f'hx-get="/compare?{query}&amp;numbers=true" hx-trigger="load"' in page
    assert "<code><bdi>model.optimizer.lr</bdi></code>" in page
    assert "<pre><bdi>0.2</bdi></pre>" in page
    assert "<bdi>model.optimizer.name</bdi>" not in page, "it is equal"
    assert HOSTILE not in page


@pytest.mark.integration
def test_differences_are_marked_where_their_interval_excludes_zero(
    tab: Tab, site: httpx2.Client, jobs: list[str]
) -> None:
    tab.open(f"{site.base_url}/compare")
    for job_id in jobs:
        tab.page.check(f"input[value='{job_id}']")
    tab.page.click("button:has-text('Compare')")
    # The newest job, which is right about every image, is the first one.
    tab.page.get_by_text("▼ -0.500 (").first.wait_for(timeout=120_000)
    assert tab.violations() == []


def test_jobs_that_cannot_be_compared_are_a_problem(site: httpx2.Client, jobs: list[str]) -> None:
    page = site.get("/compare", params={"jobs": [jobs[0], "0" * 12]})
    assert page.status_code == 404
    assert '<div class="problem">' in page.text
