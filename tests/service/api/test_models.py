"""Models and predictions over REST, with a real predictor process."""

import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest
from click.testing import CliRunner

from pipelines.base.errors import DataError
from pipelines.inference.predictor import Predictor
from pipelines.tasks.thresholds import ClassUnknown, ThresholdUnusable
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry
from service.client.client import URL_VARIABLE, Client
from service.commands.predict import predict as predict_command
from service.rest.model_schemas import PredictionList, PredictionView
from service.settings import Settings
from tests.service.api.problem_answers import is_problem
from tests.service.api.servers import serving_models
from tests.service.conftest import jpeg
from tests.service.waiting import wait_until

MAX_BYTES = 60_000
NUM_PLACES = 16


@pytest.fixture(scope="module")
def service(mlflow_runs_root: Path) -> Settings:
    return Settings(
        root=mlflow_runs_root, alias_check_s=0.1, max_image_bytes=MAX_BYTES, predict_timeout_s=120,
        predict_queue_size=NUM_PLACES, max_images=4,
    )  # fmt: skip


@pytest.fixture(scope="module")
def rest(service: Settings) -> Iterator[httpx2.Client]:
    """A client of one service for all tests here, since its predictor takes seconds to start."""
    with serving_models(service) as client:
        yield client


def predict(rest: httpx2.Client, name: str, image: bytes, **query: Any) -> httpx2.Response:
    return rest.post(f"/v1/models/{name}/predict", params=query, files={"image": ("image.jpg", image)})


@pytest.mark.integration
def test_predictions_equal_those_of_the_predictor(
    rest: httpx2.Client, shapes: list[ModelVersion], exported: list[Path]
) -> None:
    image = jpeg(48, 64)
    for number, folder in enumerate(exported, 1):
        answer = predict(rest, shapes[0].name, image, version=number)
        assert answer.status_code == 200, answer.text
        assert answer.headers["model-version"] == str(number)
        assert answer.json() == Predictor.from_exported(folder).predict([image])[0]
        assert PredictionView.model_validate_json(answer.text).model_dump(exclude_unset=True) == answer.json()


def test_threshold_selects_predictions(
    rest: httpx2.Client,
    shapes: list[ModelVersion],
    exported: list[Path],
    service_registry: Registry,
    tmp_path: Path,
) -> None:
    image = jpeg(48, 64)
    answer = predict(rest, shapes[0].name, image, version=1, threshold="best")
    assert answer.json() == Predictor.from_exported(exported[0]).predict([image], "best")[0]
    unusable = predict(rest, shapes[0].name, image, version=2, threshold="best")
    assert is_problem(unusable, 422)
    assert unusable.json()["errors"][0]["pointer"] == "/threshold"
    (tmp_path / "photo.jpg").write_bytes(image)
    for alias, number in (("with_thresholds", 1), ("without_thresholds", 2)):
        service_registry.set_alias(shapes[0].name, alias, number)
    with Client(str(rest.base_url)) as client:
        found = client.predict(shapes[0].name, "with_thresholds", tmp_path / "photo.jpg", threshold="0.45")
        assert found == Predictor.from_exported(exported[0]).predict([image], 0.45)[0]
        with pytest.raises(ThresholdUnusable, match="threshold: got best, but the model has no best thresholds"):
            client.predict(shapes[0].name, "without_thresholds", tmp_path / "photo.jpg", threshold="best")


def test_several_images_are_answered_in_order_and_one_that_cannot_be_read_fails_alone(
    rest: httpx2.Client, shapes: list[ModelVersion]
) -> None:
    images = [jpeg(48, 64, 1), b"not an image", jpeg(96, 64, 2), jpeg(48, 64, 3)]
    single = [predict(rest, shapes[0].name, image, version=2).json() for image in images]
    files = [("image", ("image.jpg", image)) for image in images]
    answer = rest.post(f"/v1/models/{shapes[0].name}/predict", params={"version": 2}, files=files)
    assert (answer.status_code, answer.headers["model-version"]) == (200, "2")
    predictions = PredictionList.model_validate_json(answer.text).predictions
    assert len(predictions) == 4
    assert answer.json()["predictions"][1] == {"problem": single[1]}
    for number in (0, 2, 3):
        found = answer.json()["predictions"][number]
        assert found["image"] == single[number]["image"]
        assert_close(found["tasks"]["scene"]["labels"], single[number]["tasks"]["scene"]["labels"])
    drawn = rest.post(f"/v1/models/{shapes[0].name}/predict", params={"version": 2, "draw": True}, files=files)
    assert is_problem(drawn, 422)


def assert_close(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Compare scores of classes; images that share a batch may differ by rounding."""
    scores = {row["label"]: row["score"] for row in expected}
    assert {row["label"]: row["score"] for row in found} == pytest.approx(scores, abs=1e-4)


def test_only_requested_classes_are_answered(rest: httpx2.Client, shapes: list[ModelVersion]) -> None:
    answer = predict(rest, shapes[0].name, jpeg(48, 64), version=1, classes=["shapes 1", "scene 0"])
    assert [row["label"] for row in answer.json()["tasks"]["scene"]["labels"]] == ["scene 0"]
    assert {row["label"] for row in answer.json()["tasks"]["shapes"]["detections"]} <= {"shapes 1"}
    unknown = predict(rest, shapes[0].name, jpeg(48, 64), version=1, classes=["scene 9"])
    assert is_problem(unknown, 422)
    assert unknown.json()["errors"][0]["pointer"] == "/classes"
    files = [("image", ("image.jpg", jpeg(8, 8))), ("image", ("image.jpg", jpeg(8, 8)))]
    several = rest.post(
        f"/v1/models/{shapes[0].name}/predict", params={"version": 1, "classes": "scene 9"}, files=files
    )
    assert several.json() == unknown.json(), "a problem of the model is that of the whole request"


def test_client_sends_as_many_images_at_once_as_the_service_takes(
    rest: httpx2.Client, shapes: list[ModelVersion], service_registry: Registry, tmp_path: Path
) -> None:
    contents = {f"{number}.jpg": jpeg(48, 64, number) for number in range(5)}
    contents |= {"5-broken.jpg": b"no image", "6-large.jpg": bytes(MAX_BYTES + 1), "7.jpg": jpeg(48, 64, 7)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    files, before = [*sorted(tmp_path.iterdir()), tmp_path / "8-missing.jpg"], _num_requests(rest)
    service_registry.set_alias(shapes[0].name, "commanded", 1)
    words = ["--model", f"{shapes[0].name}@commanded", *map(str, files), "--class", "scene 0", "--class", "shapes 1"]
    environment = {URL_VARIABLE: str(rest.base_url)}
    done = CliRunner().invoke(predict_command, words, env=environment)
    assert _num_requests(rest) - before == 3, "0 to 3, 4 and the broken one, 7; the large one is refused before"
    reasons = [problem.field.rpartition("/")[2] for problem in cast(DataError, done.exception).problems]
    assert reasons == ["5-broken.jpg", "6-large.jpg", "8-missing.jpg"]
    rows = json.loads(done.stdout)
    assert [Path(row["file"]).name for row in rows] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg", "7.jpg"]
    assert {label["label"] for row in rows for label in row["tasks"]["scene"]["labels"]} == {"scene 0"}
    unknown = CliRunner().invoke(predict_command, [*words, "--class", "scene 9"], env=environment)
    assert isinstance(unknown.exception, ClassUnknown)


def _num_requests(rest: httpx2.Client) -> int:
    """Return the number of predict requests that reached the predictor."""
    (count,) = re.findall(r"^pyramidion_prediction_seconds_count (\S+)", rest.get("/metrics").text, re.MULTILINE)
    return int(float(count))


@pytest.mark.parametrize("threshold", ["", "high", "1.5", "nan", "Best"])
def test_invalid_threshold_is_a_problem(threshold: str, rest: httpx2.Client, shapes: list[ModelVersion]) -> None:
    answer = predict(rest, shapes[0].name, jpeg(8, 8), version=1, threshold=threshold)
    assert is_problem(answer, 422)
    expected = f"query parameter 'threshold': got {threshold!r}; write best, or a number from 0 to 1, such as 0.4"
    assert answer.json()["errors"][0]["detail"] == expected


def test_concurrent_requests_for_two_models_and_invalid_images_all_get_their_response(
    rest: httpx2.Client, shapes: list[ModelVersion], exported: list[Path]
) -> None:
    images = [jpeg(48, 64, seed) if seed % 5 else b"not an image" for seed in range(40)]
    with ThreadPoolExecutor(16) as threads:
        answers = list(
            threads.map(lambda i: predict(rest, shapes[0].name, images[i], version=1 + i % 2), range(len(images)))
        )
    predictors = [Predictor.from_exported(folder) for folder in exported]
    for i, answer in enumerate(answers):
        assert answer.status_code == (200 if i % 5 else 415), answer.text
        if answer.status_code == 200:
            expected = predictors[i % 2].predict([images[i]])[0]["tasks"]["scene"]["labels"]
            scores = {row["label"]: row["score"] for row in answer.json()["tasks"]["scene"]["labels"]}
            assert scores == pytest.approx({row["label"]: row["score"] for row in expected}, abs=1e-4)


def test_picture_is_drawn_on_request(rest: httpx2.Client, shapes: list[ModelVersion]) -> None:
    answer = predict(rest, shapes[0].name, jpeg(48, 64), version=1, draw="true")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert answer.content.startswith(b"\x89PNG")
    truncated = predict(rest, shapes[0].name, jpeg(48, 64)[:-20], version=1, draw="true")
    (warning,) = json.loads(truncated.headers["prediction-warnings"])
    assert warning.startswith("is truncated")


def test_moved_champion_is_served_without_interruption(
    rest: httpx2.Client, shapes: list[ModelVersion], service_registry: Registry
) -> None:
    name = shapes[0].name
    service_registry.set_alias(name, "champion", 1)
    assert predict(rest, name, jpeg(48, 64)).headers["model-version"] == "1"
    tag = rest.get(f"/v1/models/{name}/aliases/champion").headers["etag"]
    moved = rest.put(f"/v1/models/{name}/aliases/champion", json={"version": 2}, headers={"If-Match": tag})
    assert (moved.status_code, moved.headers["etag"]) == (200, '"2"')

    def is_new() -> bool:
        answer = predict(rest, name, jpeg(48, 64))
        assert answer.status_code == 200
        return answer.headers["model-version"] == "2"

    wait_until(is_new, "the new champion")


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"files": {"image": b"\xff\xd8\xff\xe0"}}, 422, "/image"),
        ({"files": {"image": b"GARBAGE"}}, 415, "/image"),
        ({"files": {"image": b"\xff" * (MAX_BYTES + 1)}}, 413, None),
        ({"files": {"image": b"\xff" * (MAX_BYTES + 100_000)}}, 413, None),
        ({"files": {"picture": b"x"}}, 422, "/picture"),
        ({"files": [("image", b"x")] * 17}, 422, "/image"),
        ({"files": {"a/b": b"x"}}, 422, "/a~1b"),
        ({"data": {"image": "x"}}, 415, None),
        ({"content": jpeg(8, 8), "headers": {"content-type": "image/jpeg"}}, 415, None),
        ({}, 415, None),
        ({"content": b"--b--\r\n", "headers": {"content-type": "multipart/form-data; boundary=b"}}, 422, "/image"),
        ({"content": b"nothing", "headers": {"content-type": "multipart/form-data; boundary=b"}}, 422, ""),
        ({"content": b"", "headers": {"content-type": "multipart/form-data; boundary=b"}}, 422, ""),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 415, None),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=" + "b" * 300}}, 422, ""),
    ],
)
def test_body_without_a_valid_image_is_a_problem(
    body: dict[str, Any], status: int, pointer: str | None, rest: httpx2.Client, shapes: list[ModelVersion]
) -> None:
    answer = rest.post(f"/v1/models/{shapes[0].name}/predict?version=1", **body)
    assert is_problem(answer, status), answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == ([] if pointer is None else [pointer])


def test_body_without_a_length_is_cut_at_the_limit(rest: httpx2.Client, shapes: list[ModelVersion]) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
        while True:
            sent += 10_000
            yield b"x" * 10_000

    headers = {"content-type": "multipart/form-data; boundary=b"}
    try:
        answer = rest.post(f"/v1/models/{shapes[0].name}/predict?version=1", content=endless(), headers=headers)
    except httpx2.TransportError:
        pass  # the server has closed the connection while we were still sending
    else:
        assert is_problem(answer, 413)
    assert sent > MAX_BYTES


def begin_upload(rest: httpx2.Client, name: str) -> socket.socket:
    """Send the first bytes of a prediction request, and return the connection."""
    connection = socket.create_connection((rest.base_url.host, rest.base_url.port or 80), timeout=120)
    head = "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 5000\r\n\r\n--b\r\n"
    connection.sendall(f"POST /v1/models/{name}/predict?version=1 HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}".encode())
    return connection


def test_slow_uploads_occupy_no_place_in_the_queue(rest: httpx2.Client, shapes: list[ModelVersion]) -> None:
    with ExitStack() as stack:
        for _ in range(NUM_PLACES):
            stack.enter_context(begin_upload(rest, shapes[0].name))
        assert predict(rest, shapes[0].name, jpeg(48, 64), version=1).status_code == 200


def test_upload_to_an_unknown_model_is_answered_before_its_end(rest: httpx2.Client, shapes: list[ModelVersion]) -> None:
    with begin_upload(rest, "unknown") as connection, connection.makefile("rb") as answer:
        assert answer.readline().startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("unknown/predict", 404),
        ("{name}/predict?alias=unknown", 404),
        ("{name}/predict?version=99", 404),
        ("{name}/predict?version=0", 422),
        ("{name}/predict?version=x", 422),
        ("{name}/predict?version=99999999999999999999", 422),
        ("{name}/predict?version=1&alias=champion", 422),
        ("..%2f../predict", 404),
        ("it's/predict", 404),
    ],
)
def test_unknown_model_or_version_is_a_problem(
    path: str, status: int, rest: httpx2.Client, shapes: list[ModelVersion]
) -> None:
    answer = rest.post(f"/v1/models/{path.format(name=shapes[0].name)}", files={"image": jpeg(8, 8)})
    assert is_problem(answer, status), answer.text
