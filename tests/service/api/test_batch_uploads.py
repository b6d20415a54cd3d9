"""Batch predictions with uploaded images: the job and its images exist together, and are deleted together."""

import hashlib
import http.client
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from pipelines.tracking.mlflow_store import connect
from pipelines.tracking.registry import Registry
from service.settings import Settings
from service.store.database import open_database
from service.store.leases import LeasedStore
from tests.service.api.problem_answers import is_problem
from tests.service.api.servers import serving_models
from tests.service.dataset_archives import zip_of
from tests.service.dataset_requests import files_below
from tests.service.waiting import wait_until

Submit = Callable[..., httpx2.Response]
Files = list[tuple[str, tuple[str, bytes]]]


def _png(shade: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 6), shade).save(file, "PNG")
    return file.getvalue()


IMAGES = {"photos/a.png": _png(1), "photos/b.png": _png(2), "notes.txt": b"no image"}
ARCHIVE = zip_of(IMAGES)


@pytest.fixture(scope="module")
def settings_of_models(mlflow_runs_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a service with registered models."""
    root = tmp_path_factory.mktemp("uploads")
    return Settings(
        root=mlflow_runs_root, data_roots=(root,), cpus=4, gpus=0, database_url=f"sqlite:///{root}/jobs.db",
        dataset_quota_bytes=1_000_000, max_upload_images=3,
    )  # fmt: skip


@pytest.fixture(scope="module")
def rest(settings_of_models: Settings) -> Iterator[httpx2.Client]:
    with serving_models(settings_of_models) as client:
        yield client


@pytest.fixture(scope="module")
def model(service_registry: Registry) -> str:
    """The name of a model with a version without files: a submission reads none."""
    client = connect(service_registry.store)
    client.create_registered_model("uploaded")
    client.create_model_version("uploaded", "file:///nowhere")
    return "uploaded"


@pytest.fixture
def submit(rest: httpx2.Client, model: str) -> Submit:
    """Submit a form with the model of this module."""

    def submit(
        options: dict[str, Any] | None = None,
        files: Files | None = None,
        name: str = model,
        headers: dict[str, str] | None = None,
        **fields: str,
    ) -> httpx2.Response:
        data = {"options": json.dumps({"version": 1, **(options or {})}), **fields}
        return rest.post(
            f"/v1/models/{name}/batch-predictions",
            data=data,
            files=files or [("archive", ("any.zip", ARCHIVE))],
            headers=headers,
        )

    return submit


@pytest.fixture(scope="module")
def leases(settings_of_models: Settings) -> LeasedStore:
    return LeasedStore(open_database(settings_of_models.url_of_database), "test")


def _versions(rest: httpx2.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rest.get("/v1/datasets").json()["datasets"]
    return found


def _ready(rest: httpx2.Client, job: dict[str, Any]) -> dict[str, Any]:
    """Wait until the images of a job are extracted, and return their version."""
    name, _, version = job["dataset"].partition("@")

    def view() -> dict[str, Any] | None:
        found: dict[str, Any] = rest.get(f"/v1/datasets/{name}/versions/{version}").json()
        return found if found["status"] != "checking" else None

    found: dict[str, Any] = wait_until(view, "the extraction")
    return found


def _delete(rest: httpx2.Client, job_id: str) -> None:
    rest.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()
    assert rest.delete(f"/v1/jobs/{job_id}").status_code == 204


def test_job_waits_for_its_images_and_is_deleted_with_them(
    rest: httpx2.Client, submit: Submit, leases: LeasedStore, settings_of_models: Settings
) -> None:
    answer = submit({"threshold": 0.5, "folder": "photos"}, sha256=hashlib.sha256(ARCHIVE).hexdigest())
    assert answer.status_code == 202, answer.text
    job = answer.json()
    images = _ready(rest, job)
    assert (images["status"], images["num_images"], images["of_jobs"]) == ("ready", 2, True)
    folder = settings_of_models.datasets_dir / job["config"]["folder"]
    assert files_below(folder) == ["a.png", "b.png"]
    assert (job["config"]["threshold"], job["config"]["version"]) == (0.5, 1)
    assert job["id"] in {queued.id for queued in leases.queued()}
    retry_of_cancelled = rest.post(f"/v1/jobs/{job['id']}/cancel") and rest.post(f"/v1/jobs/{job['id']}/retry")
    again = retry_of_cancelled.json()
    assert rest.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert folder.is_dir(), "the retried job needs the images"
    _delete(rest, again["id"])
    wait_until(lambda: not folder.exists() and not _versions(rest), "the deletion of the images")
    assert not any(path.is_file() for path in (settings_of_models.datasets_dir / "archives").rglob("*"))


def test_one_key_gives_one_job_and_keeps_one_archive(
    rest: httpx2.Client, submit: Submit, settings_of_models: Settings
) -> None:
    first, second = (submit(headers={"Idempotency-Key": "upload"}) for _ in range(2))
    assert first.json()["id"] == second.json()["id"], second.text
    assert second.headers["idempotent-replayed"] == "true"
    other = submit({"threshold": 0.1}, headers={"Idempotency-Key": "upload"})
    assert is_problem(other, 422)
    folder = settings_of_models.datasets_dir
    assert len([path for path in (folder / "archives").rglob("*") if path.is_file()]) == len(_versions(rest)) == 1
    assert not list((folder / "incoming").glob("*.storing"))
    _delete(rest, first.json()["id"])


def test_images_are_sent_as_files_of_the_form(
    rest: httpx2.Client, submit: Submit, settings_of_models: Settings
) -> None:
    files = [("image", (name, content)) for name, content in (("a.png", _png(1)), ("b.JPG", _png(2)))]
    job = submit(files=files).json()
    assert _ready(rest, job)["num_images"] == 2
    folder = settings_of_models.datasets_dir / job["config"]["folder"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a.png": _png(1), "b.JPG": _png(2)}
    _delete(rest, job["id"])


@pytest.mark.parametrize(
    ("options", "files", "fields", "status", "pointer", "detail"),
    [
        ({"threshold": 7}, None, {}, 422, "/options/threshold", "got 7; write best, or a number from 0 to 1"),
        ({"version": 9}, None, {}, 422, "/options/version", "got 9, but 'uploaded' has no such version"),
        ({"resources": {"cpus": 99}}, None, {}, 422, "/options/resources/cpus", "got 99, but this server has 4 for"),
        ({"dataset": "shapes"}, None, {}, 422, "/options/dataset", "got 'shapes' with uploaded images"),
        ({"folder": "../a"}, None, {}, 422, "/options/folder", "got '../a'; write a path below the data root"),
        ({}, None, {"sha256": "0" * 64}, 422, "/sha256", "but the archive has"),
        ({}, None, {"priority": "1"}, 422, "/priority", "may have the fields archive, options, sha256, image"),
        ({}, [("sha256", (None, b"0" * 64))], {}, 422, "/image", "add files as fields 'image', or an archive"),
        ({}, [("archive", ("a.zip", b"no archive"))], {}, 422, "/archive", "neither a zip"),
        ({}, [("archive", (None, b"a.zip"))], {}, 422, "/archive", "has no file name; send the content of the file"),
        ({}, [("image", (None, b"a.png"))], {}, 422, "/image", "has no file name; send the content of the file"),
        ({}, [("image", ("a.txt", b""))], {}, 422, "/image", "got the file name 'a.txt'"),
        ({}, [("image", ("../a.png", b""))], {}, 422, "/image", "leads out of the archive"),
        ({}, [("image", ("a.png", b""))] * 2, {}, 422, "/image", "got the file name 'a.png' twice"),
        ({}, [("image", (f"{n}.png", b"")) for n in range(4)], {}, 422, "/image", "more than 3 images"),
        ({}, [("archive", ("a.zip", ARCHIVE)), ("image", ("a.png", b""))], {}, 422, "/image", "an archive or images"),
        ({}, [("image", ("a.png", b"")), ("archive", ("a.zip", ARCHIVE))], {}, 422, "/image", "an archive or images"),
    ],
)  # fmt: skip
def test_refused_form_names_its_field_and_leaves_nothing(
    options: dict[str, Any], files: Files | None, fields: dict[str, str], status: int, pointer: str, detail: str,
    submit: Submit, settings_of_models: Settings,
) -> None:  # fmt: skip
    answer = submit(options, files, **fields)
    assert is_problem(answer, status), answer.text
    details = {error["pointer"]: error["detail"] for error in answer.json()["errors"]}
    assert detail in details[pointer], details
    assert not list((settings_of_models.datasets_dir / "incoming").glob("*.storing"))


def test_upload_for_an_unknown_model_is_refused_before_its_end(rest: httpx2.Client) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", rest.base_url.port, timeout=120)
    connection.putrequest("POST", "/v1/models/nothing/batch-predictions")
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.putheader("Content-Length", "5000")
    connection.endheaders(b"--x\r\n")
    assert connection.getresponse().status == 404
    connection.close()


def test_upload_beyond_the_quota_is_refused(submit: Submit) -> None:
    too_much = zip_of({"a.png": bytes(1_000_001)})
    assert is_problem(submit(files=[("archive", ("a.zip", too_much))]), 413)


def test_archive_without_images_fails_the_job_with_its_reason(
    rest: httpx2.Client, submit: Submit, leases: LeasedStore
) -> None:
    job = submit(files=[("archive", ("a.zip", zip_of({"notes.txt": b"x"})))]).json()
    assert _ready(rest, job)["status"] == "invalid"
    (queued,) = [found for found in leases.queued() if found.id == job["id"]]
    problem = leases.problem_of_dataset(queued)
    assert problem is not None
    assert "contains no image files" in problem
    _delete(rest, job["id"])
