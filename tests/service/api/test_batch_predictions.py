"""Batch predictions over REST: the job that is queued, the problems of a submission, and the files of its results."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import ExportedModelDir, RunDir
from pipelines.spec.job import JobSpec
from pipelines.spec.model_description import FORMAT
from pipelines.tracking.mlflow_store import connect
from pipelines.tracking.pyfunc_folder import ARTIFACT
from pipelines.tracking.registry import Registry
from service.jobs.kinds.batch_prediction import name_of_job
from service.settings import Settings
from tests.service.api.problem_answers import is_problem
from tests.service.api.servers import serving_models


@pytest.fixture(scope="module")
def settings_of_models(mlflow_runs_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a service with registered models, and with two images below its data root."""
    root = tmp_path_factory.mktemp("data")
    (root / "photos").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (16, 16)).save(root / "photos" / name)
    return Settings(
        root=mlflow_runs_root, data_roots=(root,), cpus=16, gpus=0, database_url=f"sqlite:///{root}/jobs.db"
    )


@pytest.fixture(scope="module")
def rest(settings_of_models: Settings) -> Iterator[httpx2.Client]:
    with serving_models(settings_of_models) as client:
        yield client


@pytest.fixture(scope="module")
def model(service_registry: Registry) -> str:
    """The name of a model with two versions without files: what they lack is found by the attempt."""
    client = connect(service_registry.store)
    client.create_registered_model("counted")
    for _ in range(2):
        client.create_model_version("counted", "file:///nowhere")
    return "counted"


@pytest.fixture(scope="module")
def described(service_registry: Registry, small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a model whose version has a `model.json`, without best thresholds, and no weights."""
    folder = tmp_path_factory.mktemp("described")
    job = JobSpec.model_validate(small)
    categories = {task: [{"id": k, "name": f"{task} {k}"} for k in (1, 2)] for task in job.model.tasks}
    content = {"format": FORMAT, "job": job.model_dump(mode="json"), "categories": categories}
    write_atomic(ExportedModelDir(folder / "artifacts" / ARTIFACT).description, json.dumps(content))
    client = connect(service_registry.store)
    client.create_registered_model("described")
    client.create_model_version("described", folder.as_uri())
    return "described"


@pytest.fixture
def submit(rest: httpx2.Client, model: str) -> Callable[..., httpx2.Response]:
    """Submit a batch prediction with the model of this module."""

    def submit(name: str = model, headers: dict[str, str] | None = None, **body: Any) -> httpx2.Response:
        return rest.post(f"/v1/models/{name}/batch-predictions", json={"folder": "photos", **body}, headers=headers)

    return submit


def test_submission_is_a_job_of_its_kind_with_the_version_that_an_alias_points_to_now(
    rest: httpx2.Client, submit: Callable[..., httpx2.Response], model: str, service_registry: Registry
) -> None:
    service_registry.set_alias(model, "stable", 1)
    answer = submit(alias="stable", classes=["scene 1"], threshold="best", priority=3, resources={"timeout_s": 60})
    assert answer.status_code == 202, answer.text
    service_registry.set_alias(model, "stable", 2)
    job = rest.get(answer.headers["location"]).json()
    assert (job["kind"], job["name"], job["priority"]) == ("batch_prediction", model, 3)
    assert job["config"] == {
        "folder": "photos", "classes": ["scene 1"], "threshold": "best", "model": model, "version": 1
    }  # fmt: skip
    assert job["resources"] == {"cpus": 4, "gpus": 0, "gpu_type": None, "nodes": 1, "timeout_s": 60}
    assert [row["id"] for row in rest.get("/v1/jobs", params={"kind": "batch_prediction"}).json()["jobs"]] == [
        job["id"]
    ]


def test_same_document_as_a_job_and_one_key_twice_are_accepted(
    rest: httpx2.Client, submit: Callable[..., httpx2.Response], model: str
) -> None:
    first, second = (submit(version=2, headers={"Idempotency-Key": "one"}) for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    assert second.headers["idempotent-replayed"] == "true"
    config = {"model": model, "version": 2, "folder": "photos"}
    as_job = rest.post("/v1/jobs", json={"kind": "batch_prediction", "config": config})
    assert as_job.status_code == 202, as_job.text
    assert as_job.json()["config"] == config
    rest.post(f"/v1/jobs/{as_job.json()['id']}/cancel")
    retried = rest.post(f"/v1/jobs/{as_job.json()['id']}/retry")
    assert (retried.json()["kind"], retried.json()["config"]) == ("batch_prediction", config)


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({"version": 9}, "/version", "got 9, but '{model}' has no such version; GET /v1/models/{model} lists all"),
        ({"alias": "nobody"}, "/alias", "got 'nobody', but '{model}' has"),
        ({"alias": "a", "version": 1}, "/alias", "got 'a' and the version 1; pass only one of them"),
        ({"folder": "nowhere"}, "/folder", "no folder 'nowhere' below"),
        ({"folder": "../photos"}, "/folder", "got '../photos'; write a path below the data root"),
        ({"folder": None}, "/folder", "missing; name a folder below a data root, or a `dataset`"),
        ({"threshold": 7}, "/threshold", "got 7; write best, or a number from 0 to 1"),
        ({"clases": ["a"]}, "/clases", "unknown key; remove it"),
        ({"resources": {"cpus": 99}, "version": 1}, "/resources/cpus", "got 99, but this server has 16 for all jobs"),
    ],
)
def test_problem_of_a_submission_names_the_value_and_the_remedy(
    submit: Callable[..., httpx2.Response],
    model: str,
    body: dict[str, Any],
    pointer: str,
    detail: str,
) -> None:
    answer = submit(**body)
    assert is_problem(answer, 422)
    details = {error["pointer"]: error["detail"] for error in answer.json()["errors"]}
    assert details[pointer].startswith(detail.format(model=model)), details


@pytest.mark.parametrize(
    ("body", "details"),
    [
        (
            {"classes": ["shapes 2", "shape 1", "dog"]},
            [
                (
                    "/classes",
                    "got 'shape 1', which is not a class of the model; did you mean 'shapes 1'? The model has ",
                ),
                ("/classes", "got 'dog', which is not a class of the model; the model has scene 1, scene 2, shapes 1,"),
            ],
        ),
        ({"threshold": "best"}, [("/threshold", "got best, but the model has no best thresholds of shapes")]),
    ],
)
def test_what_the_model_does_not_have_is_refused_at_submission(
    submit: Callable[..., httpx2.Response], described: str, body: dict[str, Any], details: list[tuple[str, str]]
) -> None:
    answer = submit(described, version=1, **body)
    assert is_problem(answer, 422)
    errors = answer.json()["errors"]
    assert [error["pointer"] for error in errors] == [pointer for pointer, _ in details]
    assert all(error["detail"].startswith(text) for error, (_, text) in zip(errors, details, strict=True)), errors


def test_unknown_class_of_uploaded_images_is_refused(rest: httpx2.Client, described: str) -> None:
    image = io.BytesIO()
    Image.new("RGB", (8, 8)).save(image, "PNG")
    form = {"options": json.dumps({"version": 1, "classes": ["dog"]})}
    answer = rest.post(
        f"/v1/models/{described}/batch-predictions", data=form, files={"image": ("a.png", image.getvalue())}
    )
    assert is_problem(answer, 422)
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/options/classes"]


def test_classes_of_the_model_are_accepted(submit: Callable[..., httpx2.Response], described: str) -> None:
    answer = submit(described, version=1, classes=["scene 1"], threshold=0.5)
    assert answer.status_code == 202, answer.text


def test_unknown_model_is_not_found(submit: Callable[..., httpx2.Response]) -> None:
    answer = submit(name="nothing")
    assert is_problem(answer, 404)
    assert answer.json()["detail"] == "model: got 'nothing', which is not registered; GET /v1/models lists all"


def test_dry_run_is_only_for_kinds_that_have_one(rest: httpx2.Client) -> None:
    body = {"kind": "batch_prediction", "config": {"model": "shapes"}}
    answer = rest.post("/v1/jobs", params={"dry_run": True}, json=body)
    assert is_problem(answer, 422)
    (error,) = answer.json()["errors"]
    assert "dry runs exist for fit" in error["detail"]


def test_files_of_a_task_are_listed_and_chosen_by_media_type_or_suffix(
    rest: httpx2.Client, submit: Callable[..., httpx2.Response], settings_of_models: Settings
) -> None:
    job_id = submit(version=1).json()["id"]
    url = f"/v1/jobs/{job_id}/predictions"
    assert rest.get(url).json() == {"files": []}
    folder = RunDir.of(settings_of_models.run_dir(job_id)).predictions
    write_atomic(folder / "shapes.coco.json", "[]")
    write_atomic(folder / "shapes.csv", "image_id,file_name\n1,a.png\n")
    write_atomic(folder / ".shapes.npz.partial", "incomplete")
    files = rest.get(url).json()["files"]
    assert [(file["task"], file["media_type"]) for file in files] == [
        ("shapes", "application/json"), ("shapes", "text/csv")
    ]  # fmt: skip
    assert rest.get(files[0]["url"]).json() == rest.get(f"{url}/shapes").json() == []
    table = rest.get(f"{url}/shapes", headers={"Accept": "text/csv"})
    assert table.headers["content-type"].startswith("text/csv")
    assert list(csv.DictReader(io.StringIO(table.text))) == [{"image_id": "1", "file_name": "a.png"}]
    assert rest.get(files[1]["url"]).content == table.content
    unchanged = rest.get(files[1]["url"], headers={"If-None-Match": table.headers["etag"]})
    assert unchanged.status_code == 304
    assert is_problem(rest.get(f"{url}/boxes"), 404)


def test_result_of_a_batch_prediction_is_described(rest: httpx2.Client) -> None:
    content = rest.get("/openapi.json").json()["paths"]["/v1/jobs/{job_id}/results"]["get"]["responses"]["200"]
    schemas = json.dumps(content)
    assert {"RunResult", "BatchPredictionResult"} <= {part.rpartition("/")[2] for part in schemas.split('"')}


@pytest.mark.parametrize(
    ("registered", "name"),
    [("shapes", "shapes"), ("x" * 200, "x" * 64), ("Ärger 1", "rger-1"), ("..", "predictions")],
)
def test_job_is_named_after_its_model(registered: str, name: str) -> None:
    assert name_of_job(registered) == name
