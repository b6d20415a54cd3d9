"""The whole story over HTTP alone, as a team without a shell on the server: only httpx, and no code of ours."""

import csv
import hashlib
import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.rest_story import QUICK, picture, served, zipped_data

DEADLINE_S = 300.0
Answer = dict[str, Any]


class Team:
    """A client with a key; every answer must have the expected status."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=120)

    def ask(self, status: int, method: str, path: str, **request: Any) -> httpx.Response:
        answer = self.http.request(method, path, **request)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text[:2000]}"
        return answer

    def get(self, path: str, **request: Any) -> Any:
        return self.ask(200, "GET", path, **request).json()

    def poll(self, path: str, is_over: Callable[[Answer], bool]) -> Answer:
        deadline = time.monotonic() + DEADLINE_S
        while not is_over(answer := self.get(path)):
            assert time.monotonic() < deadline, answer
            time.sleep(0.5)
        return dict(answer)

    def events(self, path: str) -> list[Answer]:
        """Return all events of a job, from its stream."""
        with self.http.stream("GET", f"{path}/events", headers={"Accept": "text/event-stream"}) as stream:
            lines = [line.removeprefix("data: ") for line in stream.iter_lines() if line.startswith("data: ")]
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("served")
    with served(folder) as (url, key):
        yield Team(url, key)


def merged(base: Any, over: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_team_uploads_trains_watches_predicts_promotes_and_deletes(team: Team) -> None:
    # Without a key, nothing is served.
    assert httpx.get(f"{team.url}/v1/jobs").status_code == 401

    # Upload, and read the report.
    archive = zipped_data()
    form = {"name": "shapes", "sha256": hashlib.sha256(archive).hexdigest()}
    uploaded = team.ask(202, "POST", "/v1/datasets", data=form, files={"archive": ("shapes.zip", archive)})
    data_url = uploaded.headers["location"]
    dataset = team.poll(data_url, lambda answer: answer["status"] != "checking")
    assert (dataset["status"], dataset["num_images"]) == ("ready", 16), dataset
    assert team.get(f"{data_url}/report")["num_errors"] == 0
    assert team.ask(200, "GET", f"{data_url}/thumbnails/0").headers["content-type"] == "image/jpeg"

    # Submit a job that names it, and watch it.
    config = merged(dataset["document"], QUICK)
    assert config["data"]["dataset"] == dataset["reference"]
    submitted = team.ask(202, "POST", "/v1/jobs", json={"config": config}, headers={"Idempotency-Key": "training"})
    again = team.ask(202, "POST", "/v1/jobs", json={"config": config}, headers={"Idempotency-Key": "training"})
    assert again.json()["id"] == submitted.json()["id"]
    job_url = submitted.headers["location"]
    events = team.events(job_url)
    assert [event["data"]["to"] for event in events if event["kind"] == "status"][-1] == "succeeded", events[-1]
    assert {"progress", "metric", "stage"} <= {event["kind"] for event in events}
    assert [event["seq"] for event in events] == sorted({event["seq"] for event in events})

    # Read its results.
    results = team.get(f"{job_url}/results")
    (task,) = results["tasks"]
    assert results["tasks"][task]["num_images"] == 4
    assert team.get(f"{job_url}/predictions/{task}") is not None
    listed = {file["path"]: file for file in team.get(f"{job_url}/artifacts")["artifacts"]}
    best = team.ask(200, "GET", f"{job_url}/artifacts/checkpoints/best.ckpt").content
    assert hashlib.sha256(best).hexdigest() == listed["checkpoints/best.ckpt"]["sha256"]

    # Predict one and several images with the registered model.
    model_url = "/v1/models/shapes"
    assert team.get(model_url)["aliases"]["champion"] == 1
    one = team.ask(200, "POST", f"{model_url}/predict", files={"image": picture(1)}).json()
    assert one["image"] == {"width": 64, "height": 48}
    files = [("image", picture(1)), ("image", b"damaged"), ("image", picture(2))]
    several = team.ask(200, "POST", f"{model_url}/predict", files=files).json()["predictions"]
    assert several[0]["image"] == one["image"]
    assert several[1]["problem"]["status"] == 415

    # Predict the whole data set.
    body = {"dataset": dataset["reference"], "classes": ["square"], "threshold": 0.01}
    batch_url = team.ask(202, "POST", f"{model_url}/batch-predictions", json=body).headers["location"]
    watched = team.events(batch_url)
    assert [event["data"]["to"] for event in watched if event["kind"] == "status"][-1] == "succeeded", watched[-1]
    assert [event["data"]["done"] for event in watched if event["kind"] == "progress"][-1] == 16
    assert team.get(f"{batch_url}/results")["images"] == {"total": 16, "predicted": 16, "failed": 0, "damaged": 0}
    by_type = {file["media_type"]: file for file in team.get(f"{batch_url}/predictions")["files"]}
    coco = team.ask(200, "GET", by_type["application/json"]["url"])
    assert hashlib.sha256(coco.content).hexdigest() == by_type["application/json"]["sha256"]
    table = list(csv.DictReader(io.StringIO(team.ask(200, "GET", by_type["text/csv"]["url"]).text)))
    assert len(coco.json()) == len(table)
    assert {row["label"] for row in table} <= {"square"}
    rows = list(csv.DictReader(io.StringIO(team.ask(200, "GET", f"{batch_url}/artifacts/images.csv").text)))
    assert len(rows) == 16

    # Export it to another runtime, which then predicts.
    exports_url = f"{model_url}/versions/1/exports"
    export_url = team.ask(202, "POST", exports_url, json={"to": "onnx"}).headers["location"]
    watched = team.events(export_url)
    assert [event["data"]["to"] for event in watched if event["kind"] == "status"][-1] == "succeeded", watched[-1]
    (export,) = team.get(exports_url)["exports"]
    assert (export["name"], export["servable"], export["reason"]) == ("onnxruntime-fp32", True, "")
    assert team.get(f"{export_url}/results")["export"] == export["result"]
    query = {"version": 1, "runtime": "onnxruntime"}
    by_export = team.ask(200, "POST", f"{model_url}/predict", params=query, files={"image": picture(1)})
    assert by_export.headers["model-runtime"] == "onnxruntime-fp32"
    assert by_export.json()["image"] == one["image"]

    # Promote with a reason, only from the version that was seen; download the version.
    champion = f"{model_url}/aliases/champion"
    tag = team.ask(200, "GET", champion).headers["etag"]
    body = {"version": 1, "reason": "checked by hand"}
    team.ask(412, "PUT", champion, json=body, headers={"If-Match": '"99"'})
    team.ask(200, "PUT", champion, json=body, headers={"If-Match": tag})
    team.ask(201, "PUT", f"{model_url}/aliases/approved", json=body)
    assert "checked by hand" in {move["reason"] for move in team.get(f"{model_url}/promotions")["promotions"]}
    exported = team.ask(200, "GET", f"{model_url}/versions/1/archive")
    with tarfile.open(fileobj=io.BytesIO(exported.content)) as model:
        assert any(name.endswith("model.safetensors") for name in model.getnames())

    # Delete everything; a data set cannot go before the model that needs it.
    team.ask(409, "DELETE", data_url)
    team.ask(204, "DELETE", batch_url)
    team.ask(204, "DELETE", export_url)
    team.poll(job_url, lambda answer: answer["finished_at"] is not None)
    deadline = time.monotonic() + DEADLINE_S
    while team.http.delete(job_url).status_code != 204:
        assert time.monotonic() < deadline, "the final status has not reached MLflow"
        time.sleep(0.5)
    for alias in ("champion", "approved"):
        tag = team.ask(200, "GET", f"{model_url}/aliases/{alias}").headers["etag"]
        team.ask(204, "DELETE", f"{model_url}/aliases/{alias}", headers={"If-Match": tag})
    team.ask(204, "DELETE", model_url)
    team.ask(204, "DELETE", data_url)
    for gone in (job_url, batch_url, export_url, model_url, data_url):
        team.ask(404, "GET", gone)
