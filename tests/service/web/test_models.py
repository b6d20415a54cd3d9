"""The pages of models: versions, aliases and their history, and predictions for an image of the reader."""

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from pipelines.tracking.model_versions import PROMOTION_TAG, ModelVersion
from pipelines.tracking.promotion import move_alias
from pipelines.tracking.registry import CHAMPION, Registry
from service.settings import Settings
from service.store.database import open_database
from service.store.tables import jobs
from service.web.session import COOKIE, TOKEN_HEADER, token_of
from tests.service.api.servers import serving_models
from tests.service.conftest import jpeg
from tests.service.dataset_archives import write_dataset
from tests.service.documents import detection_document
from tests.service.evaluated_run import add_embeddings, write_evaluated_run
from tests.service.web.browsing import Tab
from tests.service.web.conftest import HTML

HOSTILE = '<img src=x onerror=alert(1)>\x1b[31m\u202e "reason"'


@pytest.fixture(scope="module")
def model_settings(mlflow_runs_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of `models`, with a data root."""
    data = tmp_path_factory.mktemp("data")
    write_dataset(data / "shapes")
    return Settings(root=mlflow_runs_root, data_roots=(data,), predict_timeout_s=120)


@pytest.fixture(scope="module")
def models(model_settings: Settings) -> Iterator[httpx2.Client]:
    """A client of pages over a registry; the predictor starts with the first prediction."""
    with serving_models(model_settings) as client:
        client.headers.update(HTML)
        yield client


@pytest.fixture(scope="module")
def moved(shapes: list[ModelVersion], service_registry: Registry) -> str:
    """The name of a model with two versions, whose champion is the first for a hostile reason."""
    name = shapes[0].name
    move_alias(service_registry, name, CHAMPION, 1, expected=None, by="somebody", reason=HOSTILE)
    return name


def headers_of_form(page: str, address: str) -> dict[str, str]:
    form = re.search(rf'hx-put="{address}"[^>]*hx-headers="([^"]+)"', page)
    assert form is not None, page
    headers: dict[str, str] = json.loads(unescape(form[1]))
    return headers


def test_list_leads_to_champions_and_newest_versions(models: httpx2.Client, moved: str) -> None:
    page = models.get("/models").text
    assert f'<a href="/models/{moved}"><bdi>{moved}</bdi></a>' in page
    assert f'<a href="/models/{moved}/1">version 1</a>' in page
    assert f'<a href="/models/{moved}/2">version 2</a>' in page


def test_model_has_its_versions_and_the_history_of_its_aliases_as_text(models: httpx2.Client, moved: str) -> None:
    page = models.get(f"/models/{moved}").text
    assert re.search(r'id="version-2".*id="version-1"', page, re.DOTALL)
    assert "<code>val/shapes/AP50</code> 0.500" in page
    assert "<bdi>somebody</bdi>" in page
    assert "&lt;img src=x onerror=alert(1)&gt;\u241b[31m\ufffd" in page
    assert "<img" not in page


def test_move_of_an_alias_is_refused_if_it_has_moved_since_the_page_was_read(
    models: httpx2.Client, moved: str, service_registry: Registry
) -> None:
    page = models.get(f"/models/{moved}/2").text
    address = f"/v1/models/{moved}/aliases/champion"
    headers = headers_of_form(page, address)
    assert headers == {"If-Match": '"1"'}
    headers[TOKEN_HEADER] = token_of(models.cookies[COOKIE])
    service_registry.set_alias(moved, CHAMPION, 2)
    try:
        assert models.put(address, json={"version": "2", "reason": "better"}, headers=headers).status_code == 412
    finally:
        service_registry.set_alias(moved, CHAMPION, 1)
    new = headers_of_form(models.get(f"/models/{moved}").text, f"/v1/models/{moved}/aliases/{{alias}}")
    assert new == {"If-None-Match": "*"}


def test_version_shows_its_origin_metrics_exports_and_decision(
    models: httpx2.Client, moved: str, shapes: list[ModelVersion], service_registry: Registry
) -> None:
    decision: dict[str, Any] = {
        "promote_if": "surely_better", "metric": "val/shapes/AP50", "is_promoted": False, "reason": "unsure",
        "value": 0.6, "champion": 1, "champion_value": 0.5, "low": -0.1, "high": 0.3,
    }  # fmt: skip
    service_registry.set_version_tag(shapes[1], PROMOTION_TAG, json.dumps(decision))
    page = models.get(f"/models/{moved}/2").text
    text = " ".join(re.sub(r"<[^>]+>", "", unescape(page)).replace("\xa0", " ").split())
    assert "the version did not become the champion: the difference to the champion may be chance." in text
    assert "was 0.600, and 0.500 for version 1; the 95 % interval of the difference was -0.100 to 0.300." in text
    assert str(shapes[1].run_id) in page
    assert "resnet14_thin" in page
    assert "The version has not been exported to another runtime." in page
    assert f'href="/v1/models/{moved}/versions/2/archive" download' in page
    champion = models.get(f"/models/{moved}/1").text
    assert re.search(r'aria-describedby="kept">Delete the version', champion)
    assert "Make it the champion" not in champion


def test_two_versions_are_shown_side_by_side(models: httpx2.Client, moved: str) -> None:
    page = models.get(f"/models/{moved}/comparison", params={"first": 1, "second": 2}).text
    assert "val/shapes/AP50" in page
    assert "+0.000" in page
    assert "The documents are equal." in page


@pytest.mark.parametrize("address", ["/models/unknown", "/models/unknown/1", "/models/unknown/x", "/models/%3Cb%3E"])
def test_unknown_model_is_a_problem_page(address: str, models: httpx2.Client) -> None:
    page = models.get(address)
    assert page.status_code in (404, 422)
    assert '<div class="problem">' in page.text
    assert "<b>" not in page.text


@pytest.mark.integration
def test_reader_sees_the_neighbors_of_an_embedded_object(
    tab: Tab, models: httpx2.Client, shapes: list[ModelVersion], model_settings: Settings, tmp_path: Path
) -> None:  # fmt: skip
    version, document = shapes[1], detection_document()
    job_id = models.post("/v1/jobs", json={"config": document}, headers={"Accept": "*/*"}).json()["id"]
    folder = model_settings.run_dir(job_id)
    write_evaluated_run(folder, document)
    add_embeddings(folder, "identity", [[1.0] * 16, [-1.0] * 16], [HOSTILE, "two"])
    engine = open_database(model_settings.url_of_database)
    with engine.begin() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(mlflow_run_id=version.run_id))
    engine.dispose()
    tab.open(f"{models.base_url}/models/{version.name}/{version.version}")
    (tmp_path / "photo.jpg").write_bytes(jpeg(48, 64))
    tab.page.locator("#try-file").set_input_files(tmp_path / "photo.jpg")
    tab.page.locator("#try-threshold").fill("0")
    tab.page.locator(".neighbors summary").first.click()
    neighbors = tab.page.locator(".neighbors").first.locator("li")
    neighbors.nth(1).wait_for()
    assert {text.split()[-1] for text in neighbors.all_inner_texts()} != {""}
    assert neighbors.first.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
    assert tab.violations() == []


@pytest.mark.integration
def test_reader_tries_a_version_with_a_dropped_image_and_promotes_it_with_a_reason(
    tab: Tab, models: httpx2.Client, moved: str, tmp_path: Path
) -> None:
    page = tab.page
    tab.open(f"{models.base_url}/models/{moved}/2")
    dropped = page.evaluate_handle(
        """bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "photo.jpg", {type: "image/jpeg"}));
            return transfer;
        }""",
        list(jpeg(48, 64)),
    )
    page.dispatch_event(".drop", "drop", {"dataTransfer": dropped})
    page.wait_for_selector("#try-result:not([hidden])", timeout=120_000)
    assert page.inner_text("#try-status").startswith("Version 2 on torch")
    shown = "#try-tasks li[data-task=shapes]:not([hidden])"
    page.locator("#try-threshold").fill("0")
    assert page.locator(shown).count() == page.locator("#try-boxes .box:not(.object)").count() > 0
    assert page.locator("#try-tasks li[data-task=scene]").count() == 3
    assert tab.violations() == []
    page.locator("#try-threshold").fill("1")
    assert page.locator(shown).count() == page.locator("#try-boxes .box").count() == 0
    (tmp_path / "text.jpg").write_text("no image")
    tab.expects_failed_requests = True
    page.set_input_files("#try-file", tmp_path / "text.jpg")
    page.wait_for_selector("#problem .problem")
    assert "image" in page.inner_text("#problem").lower()
    tab.expects_failed_requests = False

    page.fill("#live input[name=reason]", HOSTILE)
    page.click("text=Make it the champion")
    page.wait_for_selector("#live .tag >> text=champion")
    page.click("text=History and other aliases")
    page.wait_for_selector("#history tbody tr:nth-child(2)")
    assert tab.violations() == []
    assert (
        page.inner_text("#history tbody tr:first-child").split()[-4:]
        == HOSTILE.replace("\x1b", "\u241b").replace("\u202e", "\ufffd").split()[-4:]
    )
