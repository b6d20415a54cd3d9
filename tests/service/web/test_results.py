"""The pages about the results of a job."""

import json
import re
from html import unescape
from typing import Any

import httpx2
import pytest

from service.settings import Settings
from tests.service.documents import detection_document
from tests.service.evaluated_run import HOSTILE, write_evaluated_run
from tests.service.web.browsing import Tab

SHOWN = "&lt;b onmouseover=&#34;x&#34;&gt;\u241b[31m"
"""HOSTILE as text of a page."""
IS_PAINTED = "() => new Promise((done) => { requestAnimationFrame(() => done(true)); setTimeout(done, 500, false); })"


@pytest.fixture(scope="module")
def results(site: httpx2.Client, web_settings: Settings) -> str:
    """Path of the results of a job; a task `pairs` has nearest neighbors."""
    document = detection_document()
    answer = httpx2.post(f"{site.base_url}/v1/jobs", json={"config": document})
    job_id = str(answer.json()["id"])
    folder = web_settings.run_dir(job_id)
    result = write_evaluated_run(folder, document)
    item = {"image_id": 1, "file_name": "val1.png", "annotation_id": None, "identity": "one"}
    neighbor = {**item, "identity": HOSTILE, "similarity": 0.875}
    numbers = ("recall_at_1", "map_at_r", "macro_recall_at_1")
    result["tasks"]["pairs"] = {
        "kind": "embedding", "num_images": 2, "gallery": "self", "num_gallery": 2, "num_queries": 2, "num_left_out": 0,
        **dict.fromkeys(numbers, 0.5), "macro_min_queries": 1,
        "per_class": [{"identity": "one", "support": 2, "recall_at_1": 0.5}],
        "worst_queries": [{**item, "map_at_r": 0.25, "first_found": 2, "neighbors": [neighbor]}],
    }  # fmt: skip
    result["corruptions"] = [
        {"corruption": "fog", "strength": 2, "setting": "thick", "summary": {"val/boxes/AP": 0.125}}
    ]
    slice_of = {"value": HOSTILE, "num_images": 1, "tasks": {"boxes": {"num_images": 1, "numbers": {"AP": 0.375}}}}
    worst = {"boxes": {"value": HOSTILE, "metric": "AP", "number": 0.375}}
    result["slices"] = [{"column": "site", "values": [slice_of], "worst": worst}]
    (folder / "result.json").write_text(json.dumps(result), "utf-8")
    return f"/jobs/{job_id}/results"


def test_overview_has_the_numbers_of_all_tasks_slices_and_corruptions(site: httpx2.Client, results: str) -> None:
    page = site.get(results).text
    for task in ("boxes", "kind", "pairs"):
        assert f'href="{results}/{task}"' in page
    for text in ("fog 2 (thick)", "0.125", "Slices by <bdi>site</bdi>", "0.375", SHOWN):
        assert text in page
    assert HOSTILE not in page


def test_page_of_detections_has_every_analysis_and_leads_from_cells_to_images(
    site: httpx2.Client, results: str
) -> None:
    page = site.get(f"{results}/boxes").text
    for heading in ("COCO numbers", "Classes", "Curves", "Confusion matrix", "Errors", "Calibration", "Images"):
        assert f"{heading}</h2>" in page, heading
    row = '<td class="heat3">1</td>' * 3
    assert f'<tr><th scope="row"><bdi>box</bdi></th>{row}</tr>' in page
    assert HOSTILE not in page
    assert f"label box: confused, found as {SHOWN}</title>" in page
    of_cell = site.get(f"{results}/boxes", params={"label": "box", "predicted": HOSTILE}).text
    assert "1 of 2 images of the split val" in of_cell
    assert "val1.png" in of_cell
    assert "val2.png" not in of_cell
    name = re.search(r'name="predicted">.*<option value="([^"]+)" selected>', of_cell)
    assert name is not None
    assert unescape(name[1]) == HOSTILE, "the form sends the name, not the text that shows it"
    nothing = site.get(f"{results}/boxes", params={"outcome": "missed", "label": HOSTILE}).text
    assert "No image matches these conditions." in nothing


def test_page_of_classes_shows_images_with_their_classes(site: httpx2.Client, results: str) -> None:
    page = site.get(f"{results}/kind").text
    assert "confused: <bdi>a</bdi>, predicted as <bdi>b</bdi> (0.10)" in page
    assert 'name="threshold"' not in page


def test_page_of_embeddings_shows_worst_queries_with_their_neighbors(site: httpx2.Client, results: str) -> None:
    page = site.get(f"{results}/pairs").text
    assert f"<bdi>{SHOWN}</bdi> 0.88" in page
    assert "Images</h2>" not in page


def test_unknown_task_is_explained(site: httpx2.Client, results: str) -> None:
    page = site.get(f"{results}/other")
    assert page.status_code == 404
    assert "has the tasks kind, boxes, pairs, but not" in page.text


@pytest.mark.integration
def test_reader_finds_the_images_behind_a_number(tab: Tab, site: httpx2.Client, results: str) -> None:
    page = tab.page
    tab.open(f"{site.base_url}{results}/boxes")
    page.locator("#curves").scroll_into_view_if_needed()
    output = page.locator("#at-threshold")
    page.locator(".chart canvas").nth(1).wait_for()
    assert page.locator(".chart canvas").count() == 2
    assert output.inner_text().startswith("Above 0.50: precision 0.333, recall 0.333")
    page.locator("#threshold").fill("0.75")
    assert output.inner_text().startswith("Above 0.75: precision 0.500, recall 0.333")
    tab.follow(page.locator("#images-at"))
    assert "threshold=0.75" in page.url
    classes = page.locator("table.sortable").first
    classes.get_by_role("button", name="Boxes").click()
    assert classes.locator("tbody tr").first.inner_text().startswith("box")
    classes.get_by_role("button", name="Boxes").click()
    assert classes.locator("tbody tr").last.inner_text().startswith("box")
    assert classes.locator("[aria-sort=ascending]").inner_text() == "Boxes"
    tab.follow(page.get_by_role("link", name="box as <b onmouseover"))
    assert page.locator(".tile").count() == 1
    tab.follow(page.get_by_role("link", name="box as background: 1"))
    page.get_by_role("button", name="Enlarge val2.png").click()
    large = page.locator("#large")
    assert large.is_visible()
    assert "label box: missed" in large.inner_text()
    assert page.locator("#large img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
    assert large.locator("rect.truth").is_visible()
    page.keyboard.press("Escape")
    page.locator("#show-truth").uncheck()
    assert not page.locator("#tiles rect.truth").first.is_visible()


@pytest.mark.integration
def test_page_is_not_shown_before_its_buttons_work(tab: Tab, site: httpx2.Client, results: str) -> None:
    held: list[Any] = []
    tab.page.route("**/static/images.js", lambda route: held.append(route))
    tab.page.goto(f"{site.base_url}{results}/boxes", wait_until="commit")
    tab.page.locator("button.picture").first.wait_for(state="attached")
    assert not tab.page.evaluate(IS_PAINTED)
    held[0].continue_()
    tab.page.locator("button.picture").first.click()
    tab.page.locator("#large").wait_for()
