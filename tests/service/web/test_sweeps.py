"""The pages of sweeps."""

import httpx2
import pytest

from service.principal import KeyLimits
from service.settings import Settings
from service.states import TrialState
from service.store.database import open_database
from service.store.records import NewJob
from service.store.sweep_leases import LeasedSweepStore
from service.store.sweeps import SweepStore
from service.web.session import COOKIE, TOKEN_HEADER, token_of

HOSTILE = "<b>value</b>"


@pytest.fixture(scope="module")
def sweep_id(site: httpx2.Client, web_settings: Settings) -> str:
    """A sweep with a complete trial and a failed one."""
    labels = [{"format": "coco", "path": "{split}.json", "tasks": ["boxes"]}]
    document = {
        "name": "shapes",
        "trainer": {"max_epochs": 1, "accelerator": "cpu"},
        "model": {
            "backbone": {"name": "resnet14_thin", "weights": "none"},
            "tasks": {"boxes": {"head": "fcos"}},
        },
        "data": {"root": "shapes", "sources": {"shapes": {"images": "images", "labels": labels}}, "image_size": 64},
    }
    search = {"model.optimizer.lr": {"kind": "float", "low": 1e-4, "high": 1e-2}}
    config = {"document": document, "search": search, "metric": "val/boxes/AP50", "trials": 2}
    site.get("/sweeps")
    token = {TOKEN_HEADER: token_of(site.cookies[COOKIE])}
    answer = site.post("/v1/sweeps", json={"config": config}, headers=token)
    assert answer.status_code == 202, answer.text
    engine = open_database(web_settings.url_of_database)
    leased = LeasedSweepStore(engine, "tests")
    sweep = SweepStore(engine).get(answer.json()["id"])
    by = leased.submitter(sweep, KeyLimits())
    for number, (params, state, value) in enumerate(
        (({"model.optimizer.lr": 0.001}, TrialState.COMPLETE, 0.75), ({"note": HOSTILE}, TrialState.FAILED, None))
    ):
        leased.add_trial(sweep, number, params, NewJob("t", {"name": "t"}, 0, 1, 0), by)
        leased.end_trial(sweep, number, state, value=value, message=HOSTILE if value is None else None)
    engine.dispose()
    return sweep.id


def test_list_leads_to_the_sweeps(site: httpx2.Client, sweep_id: str) -> None:
    assert f'<a href="/sweeps/{sweep_id}">' in site.get("/sweeps").text


def test_sweep_has_a_table_of_its_trials_the_best_document_and_a_plot(site: httpx2.Client, sweep_id: str) -> None:
    page = site.get(f"/sweeps/{sweep_id}").text
    assert '<tr id="trial-0" class="best">' in page
    assert "2 of 2, 1 complete" in page
    assert "0.7500" in page
    assert "max_epochs: 1" in page
    assert f'src="/v1/sweeps/{sweep_id}/plot?format=png"' in page
    assert HOSTILE not in page
    assert page.count("&lt;b&gt;value&lt;/b&gt;") == 2
    assert f'hx-post="/v1/sweeps/{sweep_id}/cancel"' in page
    assert site.get("/sweeps/unknown").status_code == 404
