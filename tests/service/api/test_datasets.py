"""Data sets over HTTP: views, lists, checks and deletion, with real checks in processes of their own."""

import hashlib
import io
import json
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any

import httpx2
import psutil
import pytest
from PIL import Image

from service.settings import Settings
from service.store.database import open_database
from service.store.datasets import DatasetStore
from tests.service.dataset_archives import zip_of
from tests.service.dataset_requests import View, checked, files_below, upload
from tests.service.waiting import TIMEOUT_S, wait_until

Serve = Callable[[Settings], AbstractContextManager[httpx2.Client]]


def path_of(version: View) -> str:
    return f"/v1/datasets/{version['name']}/versions/{version['version']}"


def test_uploaded_archive_becomes_a_ready_version_named_by_its_content(uploaded: View, archive: bytes) -> None:
    digest = hashlib.sha256(archive).hexdigest()
    assert (uploaded["status"], uploaded["sha256"], uploaded["version"]) == ("ready", digest, digest[:12])
    assert (uploaded["kind"], uploaded["format"], uploaded["num_images"]) == ("archive", "coco", 4)
    assert (uploaded["splits"], uploaded["num_errors"]) == ({"train": 2, "val": 2}, 0)
    (task,) = uploaded["tasks"]
    assert task["classes"] == [{"name": "box", "num_labels": {"train": 2, "val": 2}}]
    sizes = {row["min_px"]: row["num_boxes"] for row in task["box_sizes"] if any(row["num_boxes"].values())}
    assert sizes == {16: {"train": 2, "val": 2}}, "20 x 16 pixels"
    assert uploaded["document"]["data"]["dataset"] == f"shapes@{digest[:12]}"
    assert uploaded["created_by"] == "local"


def test_same_content_gives_the_same_version_without_another_check(
    uploaded: View, shared_api: httpx2.Client, archive: bytes, shared_settings: Settings
) -> None:
    before = files_below(shared_settings.datasets_dir)
    answer = upload(shared_api, archive)
    assert (answer.status_code, answer.headers["location"]) == (200, path_of(uploaded))
    assert answer.json() == uploaded
    wait_until(lambda: files_below(shared_settings.datasets_dir) == before, "the removal of the second copy")


def test_views_have_entity_tags_report_and_thumbnails(uploaded: View, shared_api: httpx2.Client) -> None:
    path = path_of(uploaded)
    for one in (path, f"{path}/report", f"{path}/thumbnails/0"):
        answer = shared_api.get(one)
        assert answer.status_code == 200, one
        assert shared_api.get(one, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    thumbnail = shared_api.get(f"{path}/thumbnails/0")
    assert thumbnail.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(thumbnail.content)) as picture:
        assert max(picture.size) <= 192
    assert shared_api.get(f"{path}/report").json()["splits"]["train"]["listed"] == 2
    assert shared_api.get(f"{path}/thumbnails/99").status_code == 404
    assert shared_api.get("/v1/datasets/shapes/versions/latest").json() == uploaded


def test_list_is_filtered_and_paged(uploaded: View, shared_api: httpx2.Client) -> None:
    folder = checked(shared_api, shared_api.post("/v1/datasets", json={"name": "listed", "folder": "shapes"}))
    assert (folder["status"], folder["kind"], folder["folder"]) == ("ready", "folder", "shapes")
    page = shared_api.get("/v1/datasets", params={"limit": 1}).json()
    assert [version["name"] for version in page["datasets"]] == ["listed"]
    rest = shared_api.get("/v1/datasets", params={"cursor": page["next_cursor"], "name": "shapes"}).json()
    assert [version["reference"] for version in rest["datasets"]] == [uploaded["reference"]]
    assert shared_api.get("/v1/datasets", params={"status": "invalid", "name": "shapes"}).json()["datasets"] == []
    assert shared_api.get("/v1/jobs", params={"cursor": page["next_cursor"]}).status_code == 422


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "x", "folder": "missing"}, None),
        ({"name": "x", "folder": "../shapes"}, None),
        ({"name": "x", "folder": "/etc"}, None),
        ({"name": "a/b", "folder": "shapes"}, "/name"),
        ({"name": "x", "folder": "shapes", "other": 1}, "/other"),
        ({"name": "x", "folder": "shapes", "sources": {"images": {"images": "../x", "labels": []}}}, "/sources"),
    ],
)
def test_invalid_request_for_a_folder_is_refused(
    body: dict[str, Any], pointer: str | None, shared_api: httpx2.Client
) -> None:
    answer = shared_api.post("/v1/datasets", json=body)
    assert answer.status_code == 422, answer.text
    if pointer is not None:
        assert pointer in [error["pointer"] for error in answer.json()["errors"]]


@pytest.mark.parametrize(
    ("fields", "content", "pointer"),
    [
        ({"name": "x", "sha256": "0" * 64}, None, "/sha256"),
        ({"name": "../x"}, None, "/name"),
        ({}, None, "/name"),
        ({"name": "x", "other": "1"}, None, "/other"),
        ({"name": "x", "sources": "no json"}, None, "/sources"),
        ({"name": "x", "sources": '{"images": {}}'}, None, "/sources"),
        ({"name": "x"}, b"GIF89a" + bytes(2000), "/archive"),
        ({"name": "x"}, b"", "/archive"),
    ],
)
def test_invalid_form_is_refused_and_leaves_nothing(
    fields: dict[str, str], content: bytes | None, pointer: str, shared_api: httpx2.Client, archive: bytes,
    shared_settings: Settings,
) -> None:  # fmt: skip
    files = {"archive": ("a.zip", archive if content is None else content)}
    answer = shared_api.post("/v1/datasets", data=fields, files=files)
    assert answer.status_code == 422, answer.text
    assert {error["pointer"] for error in answer.json()["errors"]} == {pointer}
    assert "the body" not in answer.text
    incoming = shared_settings.datasets_dir / "incoming"
    wait_until(lambda: not files_below(incoming), "the removal of the upload")


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"x", "text/plain", 415),
        (b"x", "multipart/form-data", 415),
        (b"x", f"multipart/form-data; boundary={300 * 'b'}", 422),
        (b"{", "application/json", 400),
    ],
)
def test_other_content_types_and_bodies_are_refused(
    content: bytes, content_type: str, status: int, shared_api: httpx2.Client
) -> None:
    answer = shared_api.post("/v1/datasets", content=content, headers={"Content-Type": content_type})
    assert answer.status_code == status


def test_unsafe_archive_becomes_invalid_and_is_deleted_completely(
    shared_api: httpx2.Client, shared_settings: Settings
) -> None:
    before = files_below(shared_settings.datasets_dir)
    version = checked(shared_api, upload(shared_api, zip_of({"../evil.png": bytes(600)}), "unsafe"))
    assert version["status"] == "invalid"
    assert "leads out of the archive" in version["message"]
    assert shared_api.get(f"{path_of(version)}/report").status_code == 404
    assert shared_api.delete(path_of(version)).status_code == 204
    assert shared_api.get(path_of(version)).status_code == 404
    assert shared_api.delete(path_of(version)).status_code == 404
    wait_until(lambda: files_below(shared_settings.datasets_dir) == before, "the removal of the version")


def test_check_is_killed_at_its_deadline(serve: Serve, settings: Settings, archive: bytes) -> None:
    with serve(settings.model_copy(update={"dataset_check_timeout_s": 0.05})) as api:
        version = checked(api, upload(api, archive))
        assert (version["status"], "PYRAMIDION_DATASET_CHECK_TIMEOUT_S" in version["message"]) == ("invalid", True)
    with serve(settings) as api:
        again = checked(api, upload(api, archive))
        assert (again["status"], again["version"]) == ("ready", version["version"])


def check_processes(parent: int) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(parent).children():
        with suppress(psutil.Error):  # a child that has just ended
            if "service.datasets.check_process" in child.cmdline():
                found.append(child)
    return found


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "MLFLOW_FLASK_SERVER_SECRET_KEY", "PYRAMIDION_PREDICTOR_SECRET"):
        monkeypatch.setenv(name, "a secret")


def test_check_continues_after_the_api_was_killed(
    secrets: None, live_api: Any, settings: Settings, archive: bytes
) -> None:
    answer = upload(live_api.client, archive)
    (check,) = wait_until(lambda: check_processes(live_api.process.pid), "the process of the check")
    check.send_signal(signal.SIGSTOP)
    assert [name for name, text in check.environ().items() if "secret" in text] == []
    live_api.kill()
    check.wait(TIMEOUT_S)  # the kernel kills it
    engine = open_database(settings.url_of_database)
    store = DatasetStore(engine)
    (version,) = store.page(None)
    assert version.check_owner is not None
    # The claim expires, as it would after some seconds.
    assert store.renew_check(version.id, version.check_owner, -1)
    engine.dispose()
    live_api.start()
    assert checked(live_api.client, answer)["status"] == "ready"
    assert {path.name for path in settings.datasets_dir.iterdir()} == {version.id, "archives", "incoming"}


def test_document_describes_both_bodies_of_an_upload(shared_api: httpx2.Client) -> None:
    operation = shared_api.get("/openapi.json").json()["paths"]["/v1/datasets"]["post"]
    assert sorted(operation["requestBody"]["content"]) == ["application/json", "multipart/form-data"]
    assert "$ref" not in json.dumps(operation["requestBody"])
