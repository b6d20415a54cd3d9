"""The pages of data sets: the list, and the result of a check."""

import re
import shutil
from pathlib import Path

import httpx2
import pytest

from service.settings import Settings
from service.web.session import COOKIE, TOKEN_HEADER, token_of
from tests.service.dataset_archives import write_dataset, zipped
from tests.service.dataset_requests import View, checked
from tests.service.web.browsing import Tab

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def dataset(site: httpx2.Client, web_settings: Settings) -> View:
    """A version that is ready: a class has a hostile name, and an image is unreadable."""
    (root,) = web_settings.data_roots
    folder = root / "hostile"
    write_dataset(folder)
    for labels in folder.glob("*.json"):
        labels.write_text(labels.read_text().replace('"name": "box"', f'"name": "{HOSTILE}"'))
    (folder / "images" / "train1.png").write_bytes(b"no image")
    site.get("/datasets")
    token = {TOKEN_HEADER: token_of(site.cookies[COOKIE])}
    found = checked(site, site.post("/v1/datasets", json={"name": "hostile", "folder": "hostile"}, headers=token))
    shutil.rmtree(folder)
    return found


def test_list_has_the_versions_with_their_status(site: httpx2.Client, dataset: View) -> None:
    page = site.get("/datasets").text
    assert f'<a href="/datasets/hostile/{dataset["version"]}">' in page
    assert '<span class="status ready">ready</span>' in page
    assert "No data sets match." in site.get("/datasets?name=other").text
    assert "hostile" not in site.get("/datasets?status=invalid").text


def test_version_shows_findings_histograms_and_labeled_images_as_text(site: httpx2.Client, dataset: View) -> None:
    page = site.get(f"/datasets/hostile/{dataset['version']}").text
    assert re.search(r"warning</span> 1 unreadable images", page)
    assert "<bdi>images/train1.png: " in page
    assert f"<bdi>{HOSTILE}</bdi>" not in page
    assert page.count("<bdi>&lt;img src=x onerror=alert(1)&gt;</bdi>") == 1
    assert re.search(
        r'<rect class="split-train" x="0" width="1" height="1"/><rect class="split-val" x="1" width="2"', page
    )
    assert "16 to 32 px" in page
    assert page.count("<img ") == dataset["num_thumbnails"] == 3
    assert f'href="/jobs/new?dataset=hostile%40{dataset["version"]}"' in page
    assert "every 2s" not in page, "the check has ended"


@pytest.mark.parametrize("address", ["/datasets/unknown/01234567", "/datasets/hostile/x"])
def test_unknown_version_is_a_problem_page(address: str, site: httpx2.Client) -> None:
    page = site.get(address)
    assert page.status_code in (404, 422)
    assert '<div class="problem">' in page.text


@pytest.mark.integration
def test_reader_uploads_an_archive_and_sees_its_check(tab: Tab, site: httpx2.Client, tmp_path: Path) -> None:
    write_dataset(tmp_path / "shapes")
    (tmp_path / "shapes.zip").write_bytes(zipped(tmp_path / "shapes"))
    page = tab.page
    tab.open(f"{site.base_url}/datasets")
    page.fill("#upload input[name=name]", "uploaded")
    page.set_input_files("#upload input[type=file]", tmp_path / "shapes.zip")
    page.click("#upload button")
    page.wait_for_url("**/datasets/uploaded/*")
    page.wait_for_selector("#live .status.ready", timeout=60_000)
    assert page.inner_text(".histogram tbody tr:first-child").split() == ["box", "2", "2"]
    assert tab.violations() == []
    page.click("text=Delete the version")
    page.wait_for_url("**/datasets")
