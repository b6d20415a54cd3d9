"""Sweeps over REST: submission with its checks, lists, views, the plot, cancel and delete."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from sqlalchemy import Engine

from service.principal import KeyLimits
from service.settings import Settings
from service.states import SweepStatus, TrialState
from service.store.database import open_database
from service.store.records import NewJob
from service.store.sweep_leases import LeasedSweepStore
from service.store.sweeps import SweepStore
from tests.service.api.problem_answers import is_problem

Document = dict[str, Any]
RATE = {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True}
WIDTH = {"kind": "categorical", "choices": [{"channels": 16}, {"channels": 32}]}
METRIC = "val/boxes/AP50"


@pytest.fixture
def sweep(document: Document) -> Document:
    search = {"model.optimizer.lr": RATE, "model.neck": WIDTH}
    return {"document": document, "search": search, "metric": METRIC, "trials": 3, "parallel": 2}


@pytest.fixture
def post(shared_api: httpx2.Client, sweep: Document) -> Callable[..., httpx2.Response]:
    """Submit `sweep` with other fields."""

    def post(key: str | None = None, **more: Any) -> httpx2.Response:
        config = {name: value for name, value in {**sweep, **more}.items() if value != "omitted"}
        headers = {} if key is None else {"Idempotency-Key": key}
        return shared_api.post("/v1/sweeps", json={"config": config, "resources": {"cpus": 1}}, headers=headers)

    return post


@pytest.fixture
def engine(shared_settings: Settings) -> Any:
    engine = open_database(shared_settings.url_of_database)
    yield engine
    engine.dispose()


def add_trials(engine: Engine, sweep_id: str) -> None:
    """Write two complete trials and a pruned one, as the supervisor would."""
    sweeps, leased = SweepStore(engine), LeasedSweepStore(engine, "tests")
    sweep = sweeps.get(sweep_id)
    by = leased.submitter(sweep, KeyLimits())
    values = [(1e-3, 16, 0.25), (1e-2, 32, 0.75), (1e-4, 16, None)]
    for number, (rate, channels, value) in enumerate(values):
        params = {"model.optimizer.lr": rate, "model.neck": {"channels": channels}}
        leased.add_trial(sweep, number, params, NewJob("t", {"name": "t"}, 0, 1, 0), by)
        if value is None:
            leased.request_pruning(sweep, number, "pruned: worse")
            leased.end_trial(sweep, number, TrialState.PRUNED)
        else:
            leased.end_trial(sweep, number, TrialState.COMPLETE, value=value)


def test_accepted_sweep_has_an_address_and_its_defaults(
    post: Callable[..., httpx2.Response], shared_api: httpx2.Client
) -> None:
    answer = post()
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert answer.headers["location"] == f"/v1/sweeps/{body['id']}"
    assert (body["name"], body["status"], body["metric"], body["direction"]) == (
        "shapes", "running", METRIC, "maximize",
    )  # fmt: skip
    assert (body["trials"], body["best"], body["num_trials"], body["resources"]["cpus"]) == ([], None, 3, 1)
    found = shared_api.get(answer.headers["location"])
    assert found.json() == body
    again = shared_api.get(answer.headers["location"], headers={"If-None-Match": found.headers["etag"]})
    assert again.status_code == 304


def test_metric_and_direction_default_to_the_selection_of_the_document(
    post: Callable[..., httpx2.Response], document: Document
) -> None:
    model = {**document["model"], "select": {"metric": "val/boxes/AP", "mode": "max"}}
    body = post(document={**document, "model": model}, metric="omitted").json()
    assert (body["metric"], body["direction"]) == ("val/boxes/AP", "maximize")


def test_same_idempotency_key_starts_one_sweep(post: Callable[..., httpx2.Response]) -> None:
    first, again = post("k1"), post("k1")
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert is_problem(post("k1", trials=4), 422)


def errors(answer: httpx2.Response) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {error["pointer"]: error["detail"] for error in answer.json()["errors"]}


@pytest.mark.parametrize(
    ("more", "pointer", "detail"),
    [
        ({"search": {"model.optimizer.lrr": RATE}}, "/config/search/model.optimizer.lrr", "did you mean 'lr'"),
        ({"search": {"model.neck.channels": {"kind": "int", "low": -8, "high": 32}}},
         "/config/search/model.neck.channels", "got -8"),
        ({"search": {"model.backbone.name": {"kind": "categorical", "choices": ["resnet14_thin", "resnet5O"]}}},
         "/config/search/model.backbone.name", "backbone 'resnet5O' is not in the catalog"),
        ({"search": {"data.sources.shapes.images": {"kind": "categorical", "choices": ["images", "../x"]}}},
         "/config/search/data.sources.shapes.images", "with data.sources.shapes.images=../x"),
        ({"metric": "val/boxs/AP50"}, "/config/metric", "did you mean 'val/boxes/AP50'"),
        ({"constraints": {"model.parameter": {"max": 1}}}, "/config/constraints/model.parameter", "did you mean"),
        ({"constraints": {"val/box/AP": {"min": 1}}}, "/config/constraints/val~1box~1AP", "choose one of val/boxes/"),
        ({"search": {"model.tasks.boxes": {"kind": "categorical", "choices": [
            {"head": "fcos"}, {"head": "multilabel"}]}}},
         "/config/metric", "choose one of val/boxes/accuracy"),
        ({"trials": 0}, "/config/trials", "greater than or equal to 1"),
        ({"document": "omitted"}, "/config/document", "missing; add it"),
        ({"direction": "up"}, "/config/direction", "choose 'maximize' or 'minimize'"),
    ],
)  # fmt: skip
def test_invalid_sweep_is_refused_at_its_field(
    more: Document, pointer: str, detail: str, post: Callable[..., httpx2.Response], shared_api: httpx2.Client
) -> None:
    before = shared_api.get("/v1/sweeps").json()
    found = errors(post(**more))
    assert list(found) == [pointer]
    assert detail in found[pointer]
    assert shared_api.get("/v1/sweeps").json() == before


def test_problem_of_the_document_itself_is_located_in_it(
    post: Callable[..., httpx2.Response], document: Document
) -> None:
    found = errors(post(document={**document, "trainer": {"max_epoch": 1}}))
    assert list(found) == ["/config/document/trainer/max_epoch"]


def test_too_many_resources_are_refused(shared_api: httpx2.Client, sweep: Document) -> None:
    answer = shared_api.post("/v1/sweeps", json={"config": sweep, "resources": {"cpus": 999}})
    assert list(errors(answer)) == ["/resources/cpus"]


def test_view_has_the_trials_and_the_best_document(
    post: Callable[..., httpx2.Response], shared_api: httpx2.Client, engine: Engine
) -> None:
    sweep_id = post().json()["id"]
    add_trials(engine, sweep_id)
    body = shared_api.get(f"/v1/sweeps/{sweep_id}").json()
    assert [(trial["state"], trial["value"], trial["is_feasible"]) for trial in body["trials"]] == [
        ("complete", 0.25, True), ("complete", 0.75, True), ("pruned", None, None),
    ]  # fmt: skip
    best = body["best"]
    assert (best["number"], best["value"], best["job_id"]) == (1, 0.75, body["trials"][1]["job_id"])
    document = best["document"]
    assert document["name"] == "shapes-1"
    assert (document["model"]["optimizer"]["lr"], document["model"]["neck"]) == (0.01, {"channels": 32})
    assert shared_api.post("/v1/jobs", json={"config": document}).status_code == 202
    pruned = shared_api.get(f"/v1/jobs/{body['trials'][2]['job_id']}").json()["trial"]
    assert pruned == {"sweep_id": sweep_id, "number": 2, "state": "pruned", "message": "pruned: worse"}


def test_plot_has_an_axis_for_each_field_and_a_line_for_each_complete_trial(
    post: Callable[..., httpx2.Response], shared_api: httpx2.Client, engine: Engine
) -> None:
    sweep_id = post().json()["id"]
    add_trials(engine, sweep_id)
    plot = shared_api.get(f"/v1/sweeps/{sweep_id}/plot").json()
    assert [(axis["name"], axis["log"], axis["ticks"]) for axis in plot["axes"]] == [
        ("model.optimizer.lr", True, []),
        ("model.neck", False, ['{"channels": 16}', '{"channels": 32}']),
        (METRIC, False, []),
    ]
    assert [(line["values"], line["is_best"]) for line in plot["lines"]] == [
        ([1e-3, 0.0, 0.25], False), ([1e-2, 1.0, 0.75], True),
    ]  # fmt: skip
    picture = shared_api.get(f"/v1/sweeps/{sweep_id}/plot", params={"format": "png"})
    assert (picture.headers["content-type"], picture.content[:4]) == ("image/png", b"\x89PNG")


def test_list_has_pages(post: Callable[..., httpx2.Response], shared_api: httpx2.Client) -> None:
    ids = [post().json()["id"] for _ in range(3)]
    first = shared_api.get("/v1/sweeps", params={"limit": 2})
    assert [sweep["id"] for sweep in first.json()["sweeps"]] == ids[:0:-1]
    assert 'rel="next"' in first.headers["link"]
    cursor = first.json()["next_cursor"]
    assert shared_api.get("/v1/sweeps", params={"limit": 1, "cursor": cursor}).json()["sweeps"][0]["id"] == ids[0]


def test_sweep_is_cancelled_and_deleted_after_its_end(
    post: Callable[..., httpx2.Response], shared_api: httpx2.Client, engine: Engine
) -> None:
    path = f"/v1/sweeps/{post().json()['id']}"
    assert is_problem(shared_api.delete(path), 409)
    cancelled = shared_api.post(f"{path}/cancel")
    assert (cancelled.status_code, cancelled.json()["cancel_requested"]) == (202, True)
    leased = LeasedSweepStore(engine, "tests")
    leased.finish(SweepStore(engine).get(path.rpartition("/")[2]), SweepStatus.CANCELLED, None)
    assert shared_api.post(f"{path}/cancel").status_code == 200
    assert shared_api.delete(path).status_code == 204
    for answer in (shared_api.get(path), shared_api.delete(path), shared_api.post(f"{path}/cancel")):
        assert is_problem(answer, 404)


def test_schema_of_the_document_is_in_the_catalog(shared_api: httpx2.Client) -> None:
    schema = shared_api.get("/v1/catalog/sweep-schema").json()
    assert {"document", "search", "trials"} <= set(schema["properties"])
