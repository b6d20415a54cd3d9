"""Explanations over REST, with a real predictor process, and what the API itself refuses."""

import io
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from PIL import Image

from pipelines.tracking.model_versions import ModelVersion
from service.rest.explanation_schemas import ExplanationView
from service.settings import Settings
from tests.service.api.problem_answers import is_problem
from tests.service.api.servers import serving_models
from tests.service.conftest import jpeg

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def rest(mlflow_runs_root: Path) -> Iterator[httpx2.Client]:
    with serving_models(Settings(root=mlflow_runs_root, predict_timeout_s=120, max_images=4)) as client:
        yield client


def explain(
    rest: httpx2.Client, model: ModelVersion, num_images: int = 1, accept: str = "*/*", **query: str
) -> httpx2.Response:
    files = [("image", ("image.jpg", jpeg(48, 64, number))) for number in range(num_images)]
    params = {"version": 1, **query}
    return rest.post(f"/v1/models/{model.name}/explain", params=params, files=files, headers={"Accept": accept})


def test_form_of_the_answer_is_negotiated(rest: httpx2.Client, shapes: list[ModelVersion]) -> None:
    answer = explain(rest, shapes[0], task="scene")
    view = ExplanationView.model_validate_json(answer.text)
    assert (len(view.values), len(view.values[0])) == (view.map.height, view.map.width)
    picture = explain(rest, shapes[0], accept="image/png", task="scene", method="occlusion", steps="4")
    assert picture.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(picture.content)).size == (64, 48)
    assert is_problem(explain(rest, shapes[0], accept="text/csv", task="scene"), 406)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"task": "unknown"}, 422),
        ({"task": "scene", "method": "guess"}, 422),
        ({"task": "scene", "steps": "1000"}, 422),
        ({"task": "scene", "prediction": "-1"}, 422),
        ({"task": "scene", "prediction": "1000"}, 422),
        ({"task": "scene", "version": "99"}, 404),
        ({"task": "scene", "alias": "champion"}, 422),
        ({"task": "scene", "layer": "c5"}, 422),
    ],
)
def test_wrong_request_is_a_problem(
    query: dict[str, str], status: int, rest: httpx2.Client, shapes: list[ModelVersion]
) -> None:
    assert is_problem(explain(rest, shapes[0], **query), status)


def test_more_than_an_image_and_its_reference_are_refused(rest: httpx2.Client, shapes: list[ModelVersion]) -> None:
    assert is_problem(explain(rest, shapes[0], num_images=3, task="scene"), 422)
