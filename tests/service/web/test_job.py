"""The page of a job."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.settings import Settings
from service.states import FailureKind, JobStatus
from service.store.database import open_database
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import Job, NewJob
from service.web.marked_yaml import marked_yaml
from tests.service.api.servers import LiveApi
from tests.service.web.browsing import narrow_and_dark, opened_tab
from tests.service.web.conftest import settings_below

HOSTILE = '"><script>alert(1)</script>\u202egnp'
CONFIG = {"model": "shapes", "version": 1, "folder": "images", "classes": [HOSTILE]}


class Supervision:
    """A store as the API and a supervisor write to it."""

    def __init__(self, settings: Settings) -> None:
        self.engine = open_database(settings.url_of_database)
        self.store, self.leases = JobStore(self.engine), LeasedStore(self.engine, "tests")

    def queue(self, name: str, config: dict[str, Any] = CONFIG, kind: str = "batch_prediction") -> Job:
        return self.store.submit(NewJob(name, config, 0, 1, 0, kind=kind))[0]

    def run(self, name: str, config: dict[str, Any] = CONFIG, kind: str = "batch_prediction") -> Job:
        job = self.leases.claim(self.queue(name, config, kind).id, [])
        assert job is not None
        return self.leases.move(job, JobStatus.RUNNING)

    def report(self, job: Job, step: int, kind: str, **data: Any) -> Job:
        event = {"time": time.time(), "kind": kind, "epoch": 0, "step": step, "data": data}
        return self.leases.record_events(job, [event], job.events_offset + 1)

    def learn(self, job: Job, step: int, loss: float) -> Job:
        return self.report(job, step, "progress", losses={"train/boxes/box": loss}, lr=0.1, left_s=90.0, batch=step,
                           batches=10, max_epochs=4, images_per_s=1.0)  # fmt: skip

    def succeed(self, job: Job) -> Job:
        self.leases.end_attempt(job, "succeeded", 0)
        return self.leases.move(self.leases.move(job, JobStatus.FINALIZING), JobStatus.SUCCEEDED)


def write_files(settings: Settings, job: Job, files: Mapping[str, object]) -> None:
    """Write files into the run folder of a job: texts, and other values as JSON."""
    for name, content in files.items():
        path = settings.run_dir(job.id) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")


@pytest.fixture(scope="module")
def service(web_settings: Settings) -> Iterator[Supervision]:
    supervision = Supervision(web_settings)
    yield supervision
    supervision.engine.dispose()


def test_queued_job_says_why_it_waits_and_takes_another_priority(
    site: httpx2.Client, service: Supervision, change: dict[str, str]
) -> None:
    job = service.queue("patient")
    page = site.get(f"/jobs/{job.id}").text
    assert "Waits: no supervisor is running" in page
    assert f'hx-patch="/v1/jobs/{job.id}"' in page
    assert "every 3s" in page
    assert "<h2>Curves</h2>" not in page, "a batch prediction reports no numbers"
    assert site.patch(f"/v1/jobs/{job.id}", json={"priority": 7}, headers=change).status_code == 200
    assert 'value="7"' in site.get(f"/jobs/{job.id}").text


def test_running_job_has_progress_attempts_and_numbers(site: httpx2.Client, service: Supervision) -> None:
    job = service.learn(service.learn(service.run("runner", {"name": "x"}, "fit"), 5, 0.5), 6, 0.125)
    page = site.get(f"/jobs/{job.id}").text
    assert "epoch 1 of 4" in page
    assert "1 min 30 s left" in page
    assert 'aria-label="1 attempt in ' in page
    row = '<th scope="row"><bdi>train/boxes/box</bdi></th><td class="number">6</td><td class="number">0.125</td>'
    assert row in page
    assert "does not accept the document" in page
    jobs = site.get("/?name=runner").text
    assert "Sum of the losses of runner: 0.5 at first, 0.125 now" in jobs
    assert '<polyline points="0.0,1.0 100.0,19.0 "/>' in jobs
    service.succeed(job)
    assert "every 3s" not in site.get(f"/jobs/{job.id}").text, "nothing changes any more"


def test_live_part_is_answered_without_the_rest(site: httpx2.Client, service: Supervision) -> None:
    job = service.run("part")
    part = site.get(f"/jobs/{job.id}", headers={"HX-Request": "true", "HX-Target": "live"}).text
    assert 'id="live"' in part
    assert 'id="log"' not in part
    assert "Complete document" not in part


def test_result_of_a_batch_prediction_is_on_its_page(
    site: httpx2.Client, service: Supervision, web_settings: Settings
) -> None:
    job = service.run("predicted")
    images = {"total": 9, "predicted": 7, "failed": 2, "damaged": 1}
    tasks = {"boxes": {"kind": "detection", "num_rows": 1, "files": ["predictions/boxes.csv"]}}
    write_files(web_settings, job, {"result.json": {"images": images, "tasks": tasks}})
    assert "<h2>Predictions</h2>" not in site.get(f"/jobs/{job.id}").text
    service.succeed(job)
    page = site.get(f"/jobs/{job.id}").text
    assert "7 of 9 images were predicted, <strong>2 were not</strong>" in page
    assert f'<bdi>boxes</bdi>: 1 row, <a href="/v1/jobs/{job.id}/predictions/boxes" download>' in page
    assert f"/jobs/{job.id}/results" not in page, "the page with results is about trainings"


def test_result_of_an_export_is_on_its_page(site: httpx2.Client, service: Supervision, web_settings: Settings) -> None:
    job = service.run("exported", {"model": "shapes", "version": 3, "runtime": "onnx"}, "export")
    export = {
        "runtime": "onnx", "precision": "int8", "size_bytes": 2048,
        "metrics": {"val/boxes/AP": {"torch": 0.5, "variant": None}},
        "latency": {"torch_ms": 20, "runtime_ms": 5}, "gate": {"reasons": ["AP falls by 0.1"]}, "servable": False,
    }  # fmt: skip
    result = {"model": "shapes", "version": 3, "export": export, "versions": {"torch": "2.15.0"}}
    write_files(web_settings, job, {"result.json": result})
    service.succeed(job)
    page = " ".join(site.get(f"/jobs/{job.id}").text.split())
    assert "<strong>is not served</strong>: AP falls by 0.1." in page
    assert "20.0 ms in torch and 5.0 ms in the export" in page
    assert '<td class="number">0.500</td><td class="number">\N{EN DASH}</td>' in page


def test_environment_of_a_run_is_shown_as_far_as_its_files_have_it(
    site: httpx2.Client, service: Supervision, web_settings: Settings
) -> None:
    job = service.run("equipped")
    write_files(web_settings, job, {"attempts/1/run.json": {"pid": 1}})
    page = site.get(f"/jobs/{job.id}").text
    assert "<h2>Environment and data</h2>" in page
    assert "<dt>Machine</dt>" not in page
    files = {
        "attempts/1/run.json": {"pid": 1, "host": "node-3"},
        "inputs.json": {"data": "/data/x", "weights": "default"},
        "data_report.json": {"num_errors": 0, "num_warnings": 2, "fingerprints": {"train": "abc"}},
    }
    write_files(web_settings, job, files)
    page = site.get(f"/jobs/{job.id}").text
    assert "<bdi>node-3</bdi>, attempt 1" in page
    assert "<bdi>/data/x</bdi>" in page
    assert "0 errors, 2 warnings" in page
    assert "<code>abc</code>" in page


def test_job_links_to_its_data_its_run_and_the_job_that_it_repeats(
    site: httpx2.Client, service: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example")
    config = {"model": "shapes", "version": 1, "dataset": "shapes@123456789abc"}
    new = NewJob("linked", config, 0, 2, 1, 60.0, "0123456789ab", "batch_prediction", num_nodes=2)
    job = service.leases.claim(service.store.submit(new)[0].id, ["0"])
    assert job is not None
    service.leases.set_mlflow_run(job, "abc")
    page = site.get(f"/jobs/{job.id}").text
    assert 'href="/datasets/shapes/123456789abc"' in page
    assert 'href="https://mlflow.example/#/runs/abc"' in page
    assert 'href="/jobs/0123456789ab"' in page
    assert "2 nodes, each 2 CPU cores, 1 GPU, at most 1 min" in page


def test_failed_job_says_what_to_do_and_strangers_text_stays_text(
    site: httpx2.Client, service: Supervision, web_settings: Settings
) -> None:
    job = service.run("hostile")
    job = service.report(job, 1, "metric", **{f"val/{HOSTILE}": 0.5})
    files = {"attempts/1/log.txt": f"Traceback\n{HOSTILE}\n", f"{HOSTILE.replace('/', '-')}.txt": ""}
    write_files(web_settings, job, files)
    service.leases.end_attempt(job, "failed", 65, HOSTILE)
    service.leases.move(job, JobStatus.FAILED, failure=(FailureKind.NUMERICS, HOSTILE))
    page = site.get(f"/jobs/{job.id}").text
    assert "Lower the learning rate" in page
    assert "Last lines of the log" in page
    files = site.get(f"/jobs/{job.id}/files").text
    assert "attempts/1/log.txt" in files
    for text in (page, files):
        assert "<script>alert" not in text
        assert "\u202e" not in text
        assert "&lt;script&gt;alert(1)" in text


def test_unknown_job_is_a_problem(site: httpx2.Client) -> None:
    page = site.get("/jobs/unknown")
    assert (page.status_code, "unknown" in page.text) == (404, True)


def test_lines_of_a_document_that_differ_are_marked_with_those_that_lead_to_them() -> None:
    document = {"name": "a", "model": {"k/b": [1, 2], "text": "two\nlines", "c": None}, "list": [{"a": 1}, {"b": 2}]}
    lines = marked_yaml(document, {"/model/k~1b", "/model/text", "/list/1/b"})
    assert [line.text for line in lines if not line.is_different] == ["name: a", "  c: null", "- a: 1"]
    assert [line.text for line in lines if line.is_different][:4] == ["model:", "  k/b:", "  - 1", "  - 2"]


@pytest.mark.integration
@pytest.mark.parametrize("options", [{}, narrow_and_dark()], ids=["wide-light", "narrow-dark"])
def test_page_of_a_job_is_accessible_and_fits_the_window(
    options: dict[str, Any], site: httpx2.Client, service: Supervision, browser: Any
) -> None:
    running = service.learn(service.learn(service.run("w" * 64, {"name": "x"}, "fit"), 1, 0.5), 2, 0.25)
    failed = service.run("failed")
    service.leases.end_attempt(failed, "failed", 65, HOSTILE)
    service.leases.move(failed, JobStatus.FAILED, failure=(FailureKind.NUMERICS, HOSTILE))
    with opened_tab(browser, **options) as tab:
        for path in (f"/jobs/{running.id}", f"/jobs/{failed.id}", f"/jobs/{service.queue('q').id}", "/?name=failed"):
            tab.open(f"{site.base_url}{path}")
            if path.endswith(running.id):
                tab.page.locator("figure output").first.wait_for()
            assert tab.violations() == [], path
            assert tab.too_wide() == [], path


@pytest.mark.integration
def test_job_is_watched_live_while_the_api_is_killed_and_comes_back(
    tmp_path: Path, migrated_path: Path, browser: Any
) -> None:
    settings = settings_below(tmp_path, migrated_path)
    service, api = Supervision(settings), LiveApi(settings, tmp_path / "api.log")
    try:
        job = service.learn(service.run("watched", {"name": "x"}, "fit"), 1, 0.5)
        log = settings.run_dir(job.id) / "attempts" / "1" / "log.txt"
        write_files(settings, job, {"attempts/1/log.txt": "first line\nwarning: a small set\n"})
        assert api.client.get("/v1/jobs").status_code == 200
        with opened_tab(browser) as tab:
            page = tab.page
            tab.open(f"http://127.0.0.1:{api.port}/jobs/{job.id}")
            loss = page.locator("figure", has_text="Losses of boxes").locator("output")
            loss.filter(has_text="0.5").wait_for()
            page.get_by_text("first line").wait_for()
            job = service.learn(job, 2, 0.25)
            loss.filter(has_text="0.25").wait_for()
            tab.expects_failed_requests = True
            api.kill()
            job = service.learn(job, 3, 0.125)
            with log.open("a", encoding="utf-8") as file:
                file.write("error: a late line\n")
            api.start()
            loss.filter(has_text="0.125").wait_for()
            page.get_by_text("error: a late line").wait_for()
            page.locator("#log-level").select_option("error")
            assert not page.get_by_text("first line").is_visible()
            service.succeed(job)
            page.locator("#live .status.succeeded").wait_for()
    finally:
        api.close()
        service.engine.dispose()
