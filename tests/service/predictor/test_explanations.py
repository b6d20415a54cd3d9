"""The predictor explains predictions of registered models, and problems have the pointer of what is wrong."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from pipelines.explanations.explain import explain
from pipelines.inference.predictor import Predictor
from pipelines.spec.explanation import ExplanationRequest
from pipelines.tracking.model_versions import ModelVersion
from service.predictor.app import create_app
from service.rest.explanation_schemas import ExplanationView
from service.settings import Settings
from tests.service.conftest import jpeg
from tests.service.predictor.conftest import AddExport

IMAGE = jpeg(150, 200)


@pytest.fixture(scope="module")
def app(mlflow_runs_root: Path) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with TestClient(create_app(Settings(root=mlflow_runs_root, max_image_pixels=100_000), 1)) as client:
            yield client


def ask(app: TestClient, model: ModelVersion, *images: bytes, draw: bool = False, **request: Any) -> Any:
    wanted = ExplanationRequest(**request).model_dump_json()
    query = {"name": model.name, "version": 1, "request": wanted, "image_bytes": len(images[0])}
    return app.post("/explain", params=query | ({"draw": "1"} if draw else {}), content=b"".join(images))


def test_explanation_is_that_of_the_command_line(
    app: TestClient, shapes: list[ModelVersion], exported: list[Path]
) -> None:
    predictor = Predictor.from_exported(exported[0])
    expected = explain(predictor, predictor.prepare(IMAGE), ExplanationRequest(task="scene"))
    answer = ask(app, shapes[0], IMAGE, task="scene")
    assert (answer.status_code, answer.headers["model-version"], answer.headers["model-runtime"]) == (200, "1", "torch")
    found = ExplanationView.model_validate_json(answer.text)
    differing = {"seconds", "values", "warnings", "value", "predicted_score"}
    assert found.model_dump(exclude=differing) == expected.facts.model_dump(exclude=differing)
    assert found.value == pytest.approx(expected.facts.value, rel=1e-3)
    np.testing.assert_allclose(found.values, expected.values, atol=2e-4 * np.abs(expected.values).max())


def test_picture_has_the_size_of_the_image(app: TestClient, shapes: list[ModelVersion]) -> None:
    answer = ask(app, shapes[0], IMAGE, task="scene", draw=True)
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (200, 150)
    truncated = ask(app, shapes[0], IMAGE[:-20], task="scene", draw=True)
    assert json.loads(truncated.headers["prediction-warnings"])[0].startswith("is truncated")


@pytest.mark.parametrize(
    ("request_", "images", "status", "pointer"),
    [
        ({}, (IMAGE,), 422, "/task"),
        ({"task": "unknown"}, (IMAGE,), 422, "/task"),
        ({"task": "scene", "prediction": 99}, (IMAGE,), 422, "/prediction"),
        ({"task": "scene", "label": "nothing"}, (IMAGE,), 422, "/class"),
        ({"task": "scene"}, (IMAGE, IMAGE), 422, "/reference"),
        ({"task": "scene"}, (b"GIF",), 415, "/image"),
        ({"task": "scene"}, (jpeg(1000, 1000),), 413, "/image"),
    ],
)
def test_problem_points_at_what_is_wrong(
    request_: dict[str, Any],
    images: tuple[bytes, ...],
    status: int,
    pointer: str,
    app: TestClient,
    shapes: list[ModelVersion],
) -> None:
    answer = ask(app, shapes[0], *images, **request_)
    assert answer.status_code == status, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_model_that_an_export_computes_is_explained_in_torch(
    app: TestClient, scene: ModelVersion, add_export: AddExport
) -> None:
    add_export()
    model = {"name": scene.name, "version": scene.version}
    assert app.post("/predict", params=model, content=IMAGE).headers["model-runtime"] != "torch"
    query = {**model, "request": ExplanationRequest().model_dump_json(), "image_bytes": len(IMAGE)}
    answer = app.post("/explain", params=query, content=IMAGE)
    assert (answer.status_code, answer.headers["model-runtime"]) == (200, "torch"), answer.text
