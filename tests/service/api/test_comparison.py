"""`GET /v1/compare`: the numbers of the command, limits, and what other tenants see."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx2
import pytest

from service.settings import Settings
from tests.service.command_runs import run_command
from tests.service.run_folders import write_classified_run

TRUTHS = "ab" * 10
Document = dict[str, Any]
Serve = Callable[[Settings], AbstractContextManager[httpx2.Client]]


@pytest.fixture
def jobs(shared_api: httpx2.Client, shared_settings: Settings, document: Document) -> list[str]:
    """Two jobs with results."""
    ids = [str(shared_api.post("/v1/jobs", json={"config": document}).json()["id"]) for _ in range(2)]
    for job_id, predicted in zip(ids, ("a" * 20, TRUTHS), strict=True):
        write_classified_run(shared_settings.run_dir(job_id), TRUTHS, predicted)
    return ids


def test_answer_is_that_of_the_command(shared_api: httpx2.Client, shared_settings: Settings, jobs: list[str]) -> None:
    answer = shared_api.get("/v1/compare", params={"jobs": ",".join(jobs)})
    assert answer.status_code == 200, answer.text
    done = run_command("compare", *jobs, "--json", cwd=shared_settings.jobs_dir, environment={})
    assert answer.json() == json.loads(done.stdout)
    assert answer.json()["runs"] == jobs
    (accuracy,) = (row for row in answer.json()["tasks"]["kind"]["metrics"] if row["name"] == "accuracy")
    assert accuracy["values"] == [0.5, 1.0]
    assert accuracy["differences"][0]["excludes_zero"]
    only = shared_api.get("/v1/compare", params={"jobs": ",".join(jobs), "task": "kind"})
    assert only.content == answer.content
    other = shared_api.get("/v1/compare", params={"jobs": ",".join(jobs), "task": ["kind", "other"]})
    assert other.status_code == 422
    assert f"{jobs[0]}: has no task 'other', only kind" in other.json()["detail"]


def test_jobs_that_cannot_be_compared_are_problems(
    shared_api: httpx2.Client, shared_settings: Settings, jobs: list[str], document: Document
) -> None:
    first = jobs[0]
    new = str(shared_api.post("/v1/jobs", json={"config": document}).json()["id"])
    cases = {
        first: (422, "got 1 ids in `jobs`; send 2 to 10"),
        ",".join([first] * 11): (422, "got 11 ids"),
        f"{first},{'0' * 12}": (404, "0" * 12),
        f"{first},{new}": (404, f"job {new} is queued and has no results"),
        f"{first},../{first}": (404, ""),
    }
    for text, (status, detail) in cases.items():
        answer = shared_api.get("/v1/compare", params={"jobs": text})
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), text
        assert detail in answer.json()["detail"]
    write_classified_run(shared_settings.run_dir(new), TRUTHS, TRUTHS, names=[f"new{n}.png" for n in range(20)])
    answer = shared_api.get("/v1/compare", params={"jobs": f"{first},{new}"})
    assert answer.status_code == 422
    assert f"{new}: task 'kind': scored 20 images (new0.png" in answer.json()["detail"]


def test_comparison_has_limits_of_size_and_time(serve: Serve, settings: Settings, document: Document) -> None:
    limits = {"compare_max_bytes": 100}
    with serve(settings.model_copy(update=limits)) as api:
        job_id = str(api.post("/v1/jobs", json={"config": document}).json()["id"])
        write_classified_run(settings.run_dir(job_id), TRUTHS, TRUTHS)
        answer = api.get("/v1/compare", params={"jobs": f"{job_id},{job_id}"})
        assert answer.status_code == 413
        assert "PYRAMIDION_COMPARE_MAX_BYTES allows 100" in answer.json()["detail"]
    with serve(settings.model_copy(update={"compare_timeout_s": 0.05})) as api:
        answer = api.get("/v1/compare", params={"jobs": f"{job_id},{job_id}"})
        assert answer.status_code == 504
        assert "PYRAMIDION_COMPARE_TIMEOUT_S" in answer.json()["detail"]


def test_documents_of_jobs_are_compared_with_defaults_once_all_have_started(
    shared_api: httpx2.Client, shared_settings: Settings, document: Document
) -> None:
    other = {**document, "trainer": {**document["trainer"], "max_epochs": 2, "precision": "32-true"}}
    ids = [str(shared_api.post("/v1/jobs", json={"config": one}).json()["id"]) for one in (document, other)]
    path = f"/v1/compare/documents?jobs={','.join(ids)}"
    fields = [
        {"field": "trainer.max_epochs", "values": [1, 2]},
        {"field": "trainer.precision", "values": [None, "32-true"]},
    ]
    assert shared_api.get(path).json() == {"jobs": ids, "are_resolved": False, "fields": fields}
    for job_id, rate in zip(ids, (0.1, 0.2), strict=True):
        folder = shared_settings.run_dir(job_id)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(f"model: {{optimizer: {{lr: {rate}}}}}\n")
    compared = shared_api.get(path).json()
    assert (compared["are_resolved"], compared["fields"]) == (
        True,
        [{"field": "model.optimizer.lr", "values": [0.1, 0.2]}],
    )
    assert shared_api.get(f"/v1/compare/documents?jobs={ids[0]},{'0' * 12}").status_code == 404
    assert shared_api.get(f"/v1/compare/documents?jobs={ids[0]}").status_code == 422
