import io
import json
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from PIL import Image
from starlette.testclient import TestClient

from pipelines.inference.picture import draw_answer
from pipelines.inference.predictor import Predictor
from pipelines.tasks.thresholds import read_threshold
from pipelines.tracking.mlflow_store import connect
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry
from service.predictor.app import create_app
from service.settings import Settings
from tests.service.conftest import jpeg


@pytest.fixture
def app(mlflow_runs_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = Settings(root=mlflow_runs_root, max_image_pixels=100_000)
    with TestClient(create_app(settings, 1)) as client:
        yield client


def ask(app: TestClient, image: bytes, **query: Any) -> Any:
    return app.post("/predict", params=query, content=image)


def png_header(width: int, height: int) -> bytes:
    """Return a PNG file without pixel data."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return start + struct.pack(">I", 1000) + b"IDAT"


def test_response_equals_the_prediction(app: TestClient, shapes: list[ModelVersion], exported: list[Path]) -> None:
    image = jpeg(48, 64)
    for number, folder in enumerate(exported, 1):
        answer = ask(app, image, name=shapes[0].name, version=number)
        assert (answer.status_code, answer.headers["model-version"]) == (200, str(number))
        assert answer.json() == Predictor.from_exported(folder).predict([image])[0]


def test_model_that_was_used_is_found_in_its_runtime_without_the_registry(
    app: TestClient, shapes: list[ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"name": shapes[0].name, "version": 1, "runtime": "torch"}
    assert ask(app, jpeg(48, 64), **model).status_code == 200
    monkeypatch.setattr(Registry, "version", lambda *arguments: None)
    assert app.get("/models", params=model).status_code == 204
    assert app.get("/models", params={**model, "runtime": "auto"}).status_code == 404


def test_response_for_a_truncated_file_carries_a_warning(app: TestClient, shapes: list[ModelVersion]) -> None:
    image = jpeg(48, 64)
    answer = ask(app, image[:-20], name=shapes[0].name, version=1)
    assert answer.status_code == 200
    assert answer.json()["warnings"][0].startswith("is truncated")
    picture = ask(app, image[:-20], name=shapes[0].name, version=1, draw=1)
    assert picture.headers["content-type"] == "image/png"
    assert json.loads(picture.headers["prediction-warnings"]) == answer.json()["warnings"]
    assert "prediction-warnings" not in ask(app, image, name=shapes[0].name, version=1, draw=1).headers


def test_picture_equals_that_of_the_command_line(
    app: TestClient, shapes: list[ModelVersion], exported: list[Path]
) -> None:
    image = jpeg(150, 200)
    answer = ask(app, image, name=shapes[0].name, version=1, draw=1)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    predictor = Predictor.from_exported(exported[0])
    expected = draw_answer(
        Image.open(io.BytesIO(image)), predictor.predict([image])[0], predictor.job.model, predictor.categories
    )
    assert Image.open(io.BytesIO(answer.content)).tobytes() == expected.tobytes()


@pytest.mark.parametrize("text", ["best", "0.45"])
def test_threshold_selects_predictions_in_the_answer_and_in_the_picture(
    text: str, app: TestClient, shapes: list[ModelVersion], exported: list[Path]
) -> None:
    image, predictor = jpeg(150, 200), Predictor.from_exported(exported[0])
    expected = predictor.predict([image], read_threshold(text))[0]
    full = predictor.predict([image])[0]
    assert 0 < len(expected["tasks"]["scene"]["labels"]) < len(full["tasks"]["scene"]["labels"])
    assert ask(app, image, name=shapes[0].name, version=1, threshold=text).json() == expected
    drawn = ask(app, image, name=shapes[0].name, version=1, threshold=text, draw=1)
    decoded = Image.open(io.BytesIO(image))
    picture = draw_answer(decoded, expected, predictor.job.model, predictor.categories, min_score=0)
    assert Image.open(io.BytesIO(drawn.content)).tobytes() == picture.tobytes()


def test_model_without_best_thresholds_is_a_problem(app: TestClient, shapes: list[ModelVersion]) -> None:
    answer = ask(app, jpeg(48, 64), name=shapes[0].name, version=2, threshold="best")
    problem = answer.json()
    assert (answer.status_code, problem["errors"][0]["pointer"]) == (422, "/threshold")
    assert "has no best thresholds of shapes, scene" in problem["detail"]
    assert ask(app, jpeg(48, 64), name=shapes[0].name, version=2, threshold="0.5").status_code == 200


def test_answer_says_what_has_computed_it(
    app: TestClient, scene: ModelVersion, add_export: Any, shapes: list[ModelVersion]
) -> None:
    add_export()
    runtimes = {"": "onnxruntime-fp32", "torch": "torch", "onnxruntime": "onnxruntime-fp32"}
    for choice, expected in runtimes.items():
        query = {"runtime": choice} if choice else {}
        answer = ask(app, jpeg(48, 64), name=scene.name, version=1, **query)
        assert (answer.status_code, answer.headers["model-runtime"]) == (200, expected)
    answer = ask(app, jpeg(48, 64), name=shapes[0].name, version=1, runtime="openvino")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/runtime")
    assert "it has no export for openvino" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("image", "status", "text"),
    [
        (b"", 415, "known format"),
        (b"this is a text", 415, "known format"),
        (jpeg(400, 64)[:700], 422, "only 16 of its 400 rows"),
        (b"\xff\xd8\xff\xe0", 422, "cannot be decoded"),
        (png_header(400, 300), 413, "400 x 300 pixels; at most 100,000"),
        (png_header(60000, 60000), 413, "at most 100,000"),
        (png_header(40, 30), 422, "cannot be decoded"),
    ],
    ids=["empty", "text", "truncated", "start", "large", "bomb", "header"],
)
def test_unreadable_image_is_a_problem(
    image: bytes, status: int, text: str, app: TestClient, shapes: list[ModelVersion]
) -> None:
    answer = ask(app, image, name=shapes[0].name, version=1)
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert problem["status"] == status
    assert problem["errors"][0]["pointer"] == "/image"
    assert text in problem["errors"][0]["detail"]


def test_unknown_model_is_not_found(app: TestClient) -> None:
    answer = ask(app, jpeg(8, 8), name="unknown", alias="champion")
    assert (answer.status_code, answer.json()["status"]) == (404, 404)
    assert "unknown@champion" in answer.json()["detail"]


def test_version_without_a_pyramidion_model_is_a_server_error(app: TestClient, register: Any, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    register(tmp_path, "empty")
    answer = ask(app, jpeg(8, 8), name="empty", version=1)
    assert (answer.status_code, answer.json()["title"]) == (500, "The model cannot be loaded")


def test_version_whose_files_are_missing_is_gone(
    app: TestClient, register: Any, exported: list[Path], service_registry: Registry
) -> None:
    register(exported[0], "without files")
    source = connect(service_registry.store).get_model_version("without files", "1").source
    shutil.rmtree(unquote(urlsplit(source).path))
    answer = ask(app, jpeg(8, 8), name="without files", version=1)
    assert (answer.status_code, answer.json()["title"]) == (410, "The files of the model are missing")
    assert "restore them or delete it" in answer.json()["detail"]


def test_client_is_asked_to_retry_later_without_mlflow(mlflow_runs_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with TestClient(create_app(Settings(root=mlflow_runs_root), 1)) as client:
        answer = ask(client, jpeg(8, 8), name="any", alias="champion")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
