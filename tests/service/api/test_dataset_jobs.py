"""Jobs name a version of a data set, which is pinned and kept as long as they need it."""

import copy
import shutil
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image

from service.settings import Settings
from tests.service.dataset_archives import zip_of
from tests.service.dataset_requests import View, checked, upload

Document = dict[str, Any]


def of_dataset(document: Document, reference: str, **data: Any) -> Document:
    """Return a document that reads the objects of a data set."""
    changed = copy.deepcopy(document)
    changed["model"]["tasks"] = {"objects": changed["model"]["tasks"]["boxes"]}
    changed["data"] = {"dataset": reference, "image_size": 64, "num_workers": 0, **data}
    return changed


def submit(api: httpx2.Client, config: Document) -> httpx2.Response:
    return api.post("/v1/jobs", json={"config": config})


@pytest.mark.parametrize("by_version", [True, False])
def test_job_pins_the_version_with_its_place_and_sources(
    by_version: bool, uploaded: View, shared_api: httpx2.Client, document: Document
) -> None:
    reference = uploaded["reference"] if by_version else "shapes"
    answer = submit(shared_api, of_dataset(document, reference))
    assert answer.status_code == 202, answer.text
    job = answer.json()
    data = job["config"]["data"]
    assert (job["dataset"], data["dataset"]) == (uploaded["reference"], uploaded["reference"])
    assert data["root"].endswith("/files")
    assert data["sources"] == uploaded["document"]["data"]["sources"]
    shared_api.post(f"/v1/jobs/{job['id']}/cancel")
    again = shared_api.post(f"/v1/jobs/{job['id']}/retry").json()
    assert again["dataset"] == uploaded["reference"]
    assert submit(shared_api, job["config"]).status_code == 202


def test_drafted_document_is_a_valid_job(uploaded: View, shared_api: httpx2.Client) -> None:
    answer = submit(shared_api, uploaded["document"])
    assert answer.status_code == 202, answer.text


def test_given_sources_are_kept(uploaded: View, shared_api: httpx2.Client, document: Document) -> None:
    sources = copy.deepcopy(uploaded["document"]["data"]["sources"])
    sources["images"]["batch_size"] = 2
    answer = submit(shared_api, of_dataset(document, uploaded["reference"], sources=sources))
    assert answer.json()["config"]["data"]["sources"] == sources


@pytest.mark.parametrize(
    ("reference", "data", "pointer", "message"),
    [
        ("missing", {}, "/config/data/dataset", "no version of a data set named 'missing' is ready"),
        ("shapes@0123456789ab", {}, "/config/data/dataset", "no data set is named shapes@0123456789ab"),
        ("a b", {}, "/config/data/dataset", "write NAME@VERSION"),
        ("shapes\x01", {}, "/config/data/dataset", "write NAME@VERSION"),
        ("shapes", {"root": "shapes"}, "/config/data/root", "remove one of them"),
    ],
)
def test_unusable_data_set_is_refused_with_its_field(
    reference: str, data: Document, pointer: str, message: str, uploaded: View, shared_api: httpx2.Client,
    document: Document,
) -> None:  # fmt: skip
    answer = submit(shared_api, of_dataset(document, reference, **data))
    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    assert error["pointer"] == pointer
    assert message in error["detail"]


def test_documents_cannot_name_the_files_of_data_sets_by_themselves(
    uploaded: View, shared_api: httpx2.Client, document: Document
) -> None:
    job = submit(shared_api, of_dataset(document, "shapes")).json()
    config = job["config"]
    del config["data"]["dataset"]
    answer = submit(shared_api, config)
    assert answer.status_code == 422
    assert "no folder" in answer.text


def test_version_is_kept_until_the_jobs_that_need_it_are_deleted(
    api: httpx2.Client, archive: bytes, document: Document, settings: Settings
) -> None:
    version = checked(api, upload(api, archive))
    path = f"/v1/datasets/shapes/versions/{version['version']}"
    first = submit(api, of_dataset(document, "shapes")).json()["id"]
    answer = api.delete(path)
    assert (answer.status_code, f"needed by job {first}" in answer.json()["detail"]) == (409, True)
    api.post(f"/v1/jobs/{first}/cancel")
    assert api.delete(f"/v1/jobs/{first}").status_code == 204
    files = next(settings.datasets_dir.glob("*/files"))
    shutil.rmtree(files)
    answer = submit(api, of_dataset(document, "shapes"))
    assert "extracted again" in answer.json()["errors"][0]["detail"]
    again = checked(api, api.get(path).raise_for_status() and upload(api, archive))
    assert (again["status"], files.is_dir()) == ("ready", True)
    assert api.delete(path).status_code == 204
    assert submit(api, of_dataset(document, "shapes")).status_code == 422
    assert not files.exists()


def test_changed_folder_and_images_without_labels_cannot_be_trained_on(
    api: httpx2.Client, settings: Settings, document: Document, data_root: Path, tmp_path: Path
) -> None:
    pictures = {f"{number}.png": _picture(tmp_path, number) for number in range(3)}
    images = checked(api, upload(api, zip_of(pictures), "images"))
    assert images["status"] == "ready"
    answer = submit(api, of_dataset(document, "images"))
    assert "has no labels" in answer.json()["errors"][0]["detail"]
    folder = shutil.copytree(data_root / "shapes", data_root / "changing")
    try:
        checked(api, api.post("/v1/datasets", json={"name": "changing", "folder": "changing"}))
        accepted = submit(api, of_dataset(document, "changing"))
        assert accepted.json()["config"]["data"]["root"] == "changing"
        (folder / "images" / "new.txt").write_text("1")
        answer = submit(api, of_dataset(document, "changing"))
        assert "have changed" in answer.json()["errors"][0]["detail"]
    finally:
        shutil.rmtree(folder)


def _picture(folder: Path, number: int) -> bytes:
    path = folder / "picture.png"
    Image.new("RGB", (40, 30), (number, 0, 0)).save(path)
    return path.read_bytes()
