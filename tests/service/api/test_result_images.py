"""Images of the evaluated split over REST: their marks, and their pictures."""

import io
from typing import Any

import httpx2
import pytest
from PIL import Image

from service.settings import Settings
from tests.service.evaluated_run import HOSTILE, OTHER, write_evaluated_run


@pytest.fixture
def url(shared_api: httpx2.Client, document: dict[str, Any], shared_settings: Settings) -> str:
    """The results of a job."""
    job_id = str(shared_api.post("/v1/jobs", json={"config": document}).json()["id"])
    write_evaluated_run(shared_settings.run_dir(job_id), document)
    return f"/v1/jobs/{job_id}/results"


def found(answer: httpx2.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [image["file_name"] for image in answer.json()["images"]]


def test_images_behind_a_cell_of_the_confusion_matrix_are_as_many_as_it_counts(
    shared_api: httpx2.Client, url: str
) -> None:
    confusion = shared_api.get(f"{url}/boxes/confusion").json()
    assert confusion["counts"] == [[1, 1, 1], [0, 0, 0], [1, 0, 0]]
    images = f"{url}/boxes/images"
    page = shared_api.get(images).json()
    assert (page["split"], page["kind"], page["num_images"], page["num_found"]) == ("val", "detection", 2, 2)
    assert page["thresholds"] == {"box": 0.5, HOSTILE: 0.5}
    assert found(shared_api.get(images, params={"label": "box", "predicted": HOSTILE})) == ["val1.png"]
    assert found(shared_api.get(images, params={"outcome": "missed"})) == ["val2.png"]
    false = shared_api.get(images, params={"outcome": "false_positive", "predicted": "box"})
    assert found(false) == ["val2.png"]
    assert false.json()["images"][0]["predictions"] == [
        {"label": "box", "score": 0.7, "outcome": "false_positive", "truth": None, "bbox_xywh": OTHER}
    ]
    # Above another threshold, nothing is detected there.
    assert found(shared_api.get(images, params={"outcome": "false_positive", "threshold": 0.85})) == []
    assert found(shared_api.get(f"{url}/kind/images", params={"label": "a", "predicted": "b"})) == ["val1.png"]


def test_images_come_in_pages(shared_api: httpx2.Client, url: str) -> None:
    first = shared_api.get(f"{url}/boxes/images", params={"limit": 1, "order": "file"})
    assert found(first) == ["val1.png"]
    second = shared_api.get(first.headers["link"].partition(">")[0].removeprefix("<"))
    assert (found(second), second.json()["next_cursor"]) == (["val2.png"], None)


def test_unknown_classes_and_tasks_without_images_are_explained(shared_api: httpx2.Client, url: str) -> None:
    for query, detail in (
        ({"label": "bok"}, "the task has no class 'bok'; did you mean 'box'"),
        ({"outcome": "right"}, "input should be"),
        ({"cursor": "x"}, "send an unchanged next_cursor"),
    ):
        answer = shared_api.get(f"{url}/boxes/images", params=query)
        assert (answer.status_code, detail in answer.text) == (422, True), answer.text
    answer = shared_api.get(f"{url}/kind/images", params={"threshold": 0.3})
    assert (answer.status_code, "highest score" in answer.json()["detail"]) == (422, True)
    answer = shared_api.get(f"{url}/other/images")
    assert (answer.status_code, "has the tasks kind, boxes" in answer.json()["detail"]) == (404, True)


def test_picture_is_the_image_at_a_smaller_size(shared_api: httpx2.Client, url: str, shared_settings: Settings) -> None:
    listed = shared_api.get(f"{url}/boxes/images").json()["images"]
    address = next(image["picture"] for image in listed if image["file_name"] == "val1.png")
    answer = shared_api.get(address, params={"max_side": 32})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg"), answer.text
    assert answer.headers["cache-control"] == "private, max-age=3600"
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.size == (32, 24)
        red, green, blue = picture.getpixel((9, 9))
    assert abs(red - 9) + green + abs(blue - 200) < 20
    again = shared_api.get(address, params={"max_side": 32}, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_picture_that_is_gone_is_explained(
    shared_api: httpx2.Client, url: str, shared_settings: Settings, document: dict[str, Any]
) -> None:
    answer = shared_api.get(f"{url}/boxes/images/77/picture")
    assert (answer.status_code, answer.json()["detail"]) == (404, "the split val of 'boxes' has no image 77")
    folder = shared_settings.run_dir(url.split("/")[3])
    path = folder / "ground_truth" / "boxes.coco.json"
    for name, detail in (
        ("gone.png", "the file gone.png of 'shapes' is missing; it was deleted or moved after the run"),
        ("../val.json", "write it without '..'"),
        ("/etc/passwd", "write a path relative"),
        ("x" * 300, "(File name too long)"),
    ):
        path.write_text(path.read_text("utf-8").replace('"val1.png"', f'"{name}"'), "utf-8")
        result = folder / "result.json"
        result.write_text(result.read_text("utf-8") + " ", "utf-8")  # a run that writes its files again
        answer = shared_api.get(f"{url}/boxes/images/1/picture")
        assert (answer.status_code, detail in answer.json()["detail"]) == (404, True), answer.text
        path.write_text(path.read_text("utf-8").replace(f'"{name}"', '"val1.png"'), "utf-8")
