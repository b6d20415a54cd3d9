"""Neighbors of an embedding over REST."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from service.settings import Settings
from tests.service.evaluated_run import BOX, add_embeddings, write_evaluated_run


@pytest.fixture
def url(shared_api: httpx2.Client, document: dict[str, Any], shared_settings: Settings) -> str:
    """The results of a job with three embedded objects; the identity of the last one is unknown."""
    job_id = str(shared_api.post("/v1/jobs", json={"config": document}).json()["id"])
    write_evaluated_run(shared_settings.run_dir(job_id), document)
    add_embeddings(shared_settings.run_dir(job_id), "identity", [[1, 0], [0, 2], [3, 3]], ["one", "two", ""])
    return f"/v1/jobs/{job_id}/results"


def test_neighbors_have_their_identities_boxes_and_pictures(shared_api: httpx2.Client, url: str) -> None:
    answer = shared_api.post(f"{url}/identity/neighbors", json={"embedding": [5, 0.1], "count": 2})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["task"], found["split"], found["num_items"]) == ("identity", "val", 3)
    first, second = found["neighbors"]
    assert first == {
        "image_id": 1, "source": "shapes", "file_name": "val1.png", "annotation_id": 10, "identity": "one",
        "bbox_xywh": BOX, "similarity": pytest.approx(5 / (25.01**0.5)),
        "picture": f"{url}/identity/images/1/picture",
    }  # fmt: skip
    assert (second["annotation_id"], second["identity"]) == (12, None)
    picture = shared_api.get(second["picture"], params={"max_side": 32})
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg"), picture.text


@pytest.mark.parametrize(
    ("task", "body", "status", "detail"),
    [
        (
            "identity",
            {"embedding": [1, 2, 3]},
            422,
            "field 'embedding': got 3 values; the embeddings of the task have 2",
        ),
        ("identity", {"embedding": [0, 0]}, 422, "got only zeros"),
        ("identity", {"embedding": []}, 422, "embedding"),
        ("identity", {"embedding": [1, 2], "count": 51}, 422, "count"),
        ("boxes", {"embedding": [1, 2]}, 404, "the task 'boxes' has no embeddings: it is a detection task"),
        ("other", {"embedding": [1, 2]}, 404, "has the tasks kind, boxes, identity, but not 'other'"),
    ],
)
def test_request_that_finds_nothing_is_explained(
    task: str, body: dict[str, Any], status: int, detail: str, shared_api: httpx2.Client, url: str
) -> None:
    answer = shared_api.post(f"{url}/{task}/neighbors", json=body)
    assert (answer.status_code, detail in answer.text) == (status, True), answer.text


def test_embeddings_have_no_marked_images(shared_api: httpx2.Client, url: str) -> None:
    answer = shared_api.get(f"{url}/identity/images")
    assert (answer.status_code, "embedding tasks have no labels and scores" in answer.text) == (404, True), answer.text
    assert shared_api.get(f"{url}/identity/images/9/picture").status_code == 404


@pytest.mark.parametrize("damage", [lambda old: old[: len(old) // 2], lambda old: b"no arrays", lambda old: b""])
def test_damaged_embeddings_are_explained(
    damage: Callable[[bytes], bytes], shared_api: httpx2.Client, url: str, shared_settings: Settings
) -> None:
    path = shared_settings.run_dir(url.split("/")[3]) / "predictions" / "identity.npz"
    path.write_bytes(damage(path.read_bytes()))
    for answer in (
        shared_api.post(f"{url}/identity/neighbors", json={"embedding": [1, 0]}),
        shared_api.get(f"{url}/identity/images/1/picture"),
    ):
        assert (answer.status_code, "its files cannot be used" in answer.text) == (404, True), answer.text


def test_embedding_that_is_not_finite_is_no_near_neighbor(
    shared_api: httpx2.Client, url: str, shared_settings: Settings
) -> None:
    folder = shared_settings.run_dir(url.split("/")[3])
    add_embeddings(folder, "identity", [[float("nan"), 0], [0, 2], [3, 3]], ["one", "two", "three"])
    found = shared_api.post(f"{url}/identity/neighbors", json={"embedding": [1, 1]})
    assert found.status_code == 200, found.text
    assert [one["identity"] for one in found.json()["neighbors"]] == ["three", "two", "one"]
