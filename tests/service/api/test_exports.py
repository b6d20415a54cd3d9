"""Exports of versions over REST and by command: the job that is queued, its problems, and the list of exports."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner, Result

from pipelines.spec.exported_variant import MetricPair
from pipelines.spec.job import JobSpec
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry
from service.client.client import URL_VARIABLE
from service.commands.registry import MODELS
from service.settings import Settings
from tests.channel_means import write_channel_means
from tests.service.api.problem_answers import is_problem
from tests.service.api.servers import serving_models

NAME = "scenes"
NUMBERS = {"mAP": MetricPair(torch=0.5, variant=0.4), "macro_f1": MetricPair(torch=0.25, variant=0.25)}
PATH = f"/v1/models/{NAME}/versions/1/exports"


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the folder that the document of the version names."""
    root = tmp_path_factory.mktemp("data")
    (root / "demo").mkdir()
    return root


@pytest.fixture(scope="module")
def rest(mlflow_runs_root: Path, data_root: Path) -> Iterator[httpx2.Client]:
    settings = Settings(
        root=mlflow_runs_root, data_roots=(data_root,), cpus=16, gpus=0, database_url=f"sqlite:///{data_root}/jobs.db"
    )
    with serving_models(settings) as client:
        yield client


@pytest.fixture(scope="module", autouse=True)
def version(register: Callable[[Path, str], ModelVersion], scene_model: Path) -> ModelVersion:
    return register(scene_model, NAME)


@pytest.fixture
def run(rest: httpx2.Client) -> Callable[..., Result]:
    """Run a command of `pyramidion models`; its errors are raised."""
    return lambda *arguments: CliRunner().invoke(
        MODELS, arguments, env={URL_VARIABLE: str(rest.base_url)}, catch_exceptions=False, standalone_mode=False
    )


def test_export_is_a_job_of_its_kind(rest: httpx2.Client) -> None:
    body = {"to": "openvino", "precision": "int8", "max_drop": 0.02, "test": True, "priority": 2}
    first, second = (rest.post(PATH, json=body, headers={"Idempotency-Key": "one"}) for _ in range(2))
    assert first.status_code == 202, first.text
    assert first.json()["id"] == second.json()["id"]
    job = rest.get(first.headers["location"]).json()
    assert (job["kind"], job["name"], job["priority"]) == ("export", NAME, 2)
    expected = {"to": "openvino", "precision": "int8", "max_drop": 0.02, "test": True, "model": NAME, "version": 1}
    assert job["config"] == expected
    assert job["resources"] == {"cpus": 4, "gpus": 0, "gpu_type": None, "nodes": 1, "timeout_s": None}
    as_job = rest.post("/v1/jobs", json={"kind": "export", "config": expected})
    assert (as_job.status_code, as_job.json()["config"]) == (202, expected)


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({"to": "tflite"}, "/to", "got 'tflite'; input should be 'onnx' or 'openvino'"),
        ({"to": "onnx", "precision": "bf16"}, "/precision", "got 'bf16'; exports to onnx are fp32 or int8"),
        ({"to": "onnx", "max_drop": 2}, "/max_drop", "less than or equal to 1"),
        ({"to": "openvino", "accuracy_aware": True}, "/accuracy_aware", "only possible for the format openvino with"),
        ({"to": "onnx", "resources": {"cpus": 99}}, "/resources/cpus", "request at most 16"),
    ],
)
def test_invalid_export_is_refused_with_its_field(
    body: dict[str, Any], pointer: str, detail: str, rest: httpx2.Client
) -> None:
    answer = rest.post(PATH, json=body)
    problem = answer.json()
    assert is_problem(answer, 422)
    assert problem["errors"][0]["pointer"] == pointer
    assert detail in problem["errors"][0]["detail"]


@pytest.mark.parametrize("path", [f"/v1/models/{NAME}/versions/9/exports", "/v1/models/nothing/versions/1/exports"])
def test_unknown_version_has_no_exports_and_gets_none(path: str, rest: httpx2.Client) -> None:
    assert is_problem(rest.get(path), 404)
    assert is_problem(rest.post(path, json={"to": "onnx"}), 404)


def test_version_without_its_data_is_not_exported(rest: httpx2.Client, data_root: Path) -> None:
    (data_root / "demo").rename(data_root / "moved")
    try:
        answer = rest.post(PATH, json={"to": "onnx"})
    finally:
        (data_root / "moved").rename(data_root / "demo")
    assert is_problem(answer, 422)
    assert "on the val data of the version, which is not here: no folder 'demo'" in answer.json()["errors"][0]["detail"]


def test_job_for_a_version_of_no_data_set_names_none(rest: httpx2.Client) -> None:
    config = {"to": "onnx", "model": NAME, "version": 1, "root": "demo"}
    answer = rest.post("/v1/jobs", json={"kind": "export", "config": config})
    assert is_problem(answer, 422)
    assert answer.json()["errors"][0]["pointer"] == "/config/root"


def test_exports_of_a_version_are_listed_with_what_was_measured(
    rest: httpx2.Client,
    run: Callable[..., Result],
    service_registry: Registry,
    version: ModelVersion,
    scene_job: JobSpec,
    tmp_path: Path,
) -> None:
    assert rest.get(PATH).json() == {"name": NAME, "version": 1, "exports": []}
    variant = write_channel_means(tmp_path / "export", scene_job, ("val/scene/mAP falls by 0.1",))
    metrics = {f"{split}/scene/{name}": number for split in ("val", "test") for name, number in NUMBERS.items()}
    variant.metrics.update(metrics)
    service_registry.add_export(version, tmp_path / "export", variant.result)
    (listed,) = rest.get(PATH).json()["exports"]
    assert (listed["name"], listed["servable"], listed["speedup"]) == ("onnxruntime-fp32", False, 2.0)
    assert listed["reason"] == "val/scene/mAP falls by 0.1"
    assert listed["result"] == variant.result.model_dump(mode="json")
    assert set(listed["main_metrics"]) == {"val/scene/mAP", "test/scene/mAP"}
    table = run("exports", NAME, "1").stdout
    assert "onnxruntime-fp32" in table
    assert "10.0 ms" in table
    assert listed["result"]["weights_sha256"] in run("exports", NAME, "candidate", "--json").stdout


def test_command_submits_an_export(rest: httpx2.Client, run: Callable[..., Result]) -> None:
    done = run("export", NAME, "candidate", "--to", "openvino", "--max-drop", "0.0", "--test")
    config = rest.get(f"/v1/jobs/{done.stdout.strip()}").json()["config"]
    assert config == {
        "to": "openvino", "precision": "fp32", "nms": "outside", "max_drop": 0.0, "test": True, "model": NAME,
        "version": 1,
    }  # fmt: skip
