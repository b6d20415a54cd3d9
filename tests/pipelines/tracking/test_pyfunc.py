"""MLflow stores, loads and serves a registered model."""

import base64
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.pyfunc import scoring_server
from PIL import Image
from starlette.testclient import TestClient

from pipelines.base.errors import ConfigError
from pipelines.base.records import Category
from pipelines.inference.export import export_model
from pipelines.inference.predictor import Predictor
from pipelines.model import MultiTaskModel
from pipelines.spec.job import JobSpec
from pipelines.spec.learning import SelectSpec
from pipelines.tracking.mlflow_store import Store, connect, find_experiment
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.pyfunc_folder import pip_requirements
from pipelines.tracking.registry import Registry
from tests.channel_means import write_channel_means

pytestmark = pytest.mark.usefixtures("no_mlflow_settings")

Categories = dict[str, list[Category]]


@pytest.fixture(scope="module")
def exported(
    tiny_model: MultiTaskModel,
    tiny_job: JobSpec,
    tiny_categories: Categories,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    best = {task: {f"{task} 0": 0.4, f"{task} 1": None, f"{task} 2": 0.55} for task in ("cells", "signs")}
    export_model(tiny_model, tiny_job, tiny_categories, folder, best)
    return folder


@pytest.fixture
def in_store(no_mlflow_settings: None, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the store as a user does before `mlflow.pyfunc.load_model`, and restore `sys.path`, which loading extends."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri)
    monkeypatch.setattr(sys, "path", list(sys.path))


def register(registry: Registry, exported: Path, name: str) -> ModelVersion:
    """Register the exported model as the model of a new run."""
    client = connect(registry.store)
    run_id = client.create_run(find_experiment(client, registry.store, "tests")).info.run_id
    select = SelectSpec(metric="val/cells/AP")
    return registry.register(exported, name=name, run_id=run_id, metrics={}, select=select, val_fingerprint="data 1")


def table(images: list[Image.Image]) -> pd.DataFrame:
    return pd.DataFrame({"image": [base64.b64encode(png(image)).decode() for image in images]})


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_downloaded_version_predicts_like_the_exported_model(
    registry: Registry, exported: Path, tmp_path: Path, tiny_images: list[Image.Image]
) -> None:
    version = register(registry, exported, "download")
    folder = registry.download_exported(version, tmp_path)
    assert Predictor.from_exported(folder).predict(tiny_images[:1]) == Predictor.from_exported(exported).predict(
        tiny_images[:1]
    )


@pytest.mark.usefixtures("in_store")
def test_loaded_pyfunc_gives_the_answers_of_the_predictor(
    registry: Registry, exported: Path, tiny_images: list[Image.Image]
) -> None:
    version = register(registry, exported, "pyfunc")
    served = mlflow.pyfunc.load_model(version.uri)
    expected = Predictor.from_exported(exported).predict([png(image) for image in tiny_images])
    assert [json.loads(text) for text in served.predict(table(tiny_images))] == expected
    assert served.metadata.signature.inputs.to_dict() == [{"type": "string", "name": "image", "required": True}]
    assert len(served.predict(served.input_example)) == 1
    for text, threshold in (("best", "best"), ("0.5", 0.5)):
        selected = Predictor.from_exported(exported).predict([png(image) for image in tiny_images], threshold)
        assert selected != expected
        assert [json.loads(text) for text in served.predict(table(tiny_images), {"threshold": text})] == selected
    with pytest.raises(ConfigError, match=r"threshold: got '2'; write best, or a number"):
        served.predict(table(tiny_images), {"threshold": "2"})

    with TestClient(scoring_server.init(served)) as client:
        body = {"dataframe_split": table(tiny_images[:2]).to_dict("split")}
        answer = client.post("/invocations", json=body)
        assert answer.status_code == 200
        assert [json.loads(text) for text in answer.json()["predictions"]] == expected[:2]
        answer = client.post("/invocations", json=body | {"params": {"threshold": "best"}})
        best = Predictor.from_exported(exported).predict([png(image) for image in tiny_images[:2]], "best")
        assert [json.loads(text) for text in answer.json()["predictions"]] == best
        broken = client.post("/invocations", json={"dataframe_records": [{"image": "?"}]})
        assert broken.status_code == 400
        assert "image in row 0" in broken.text


@pytest.mark.usefixtures("in_store")
def test_pyfunc_uses_an_export_whose_runtime_is_installed(
    registry: Registry, scene_model: Path, scene_job: JobSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = register(registry, scene_model, "exports")
    slow, fast = (
        write_channel_means(tmp_path / name, scene_job, (), ms, model=scene_model)
        for name, ms in (("slow", 30), ("fast", 5))
    )
    image = table([Image.new("RGB", (96, 96), (255, 0, 51))])

    def answers() -> list[float]:
        (answer,) = mlflow.pyfunc.load_model(version.uri).predict(image)
        return [row["score"] for row in json.loads(answer)["tasks"]["scene"]["labels"]]

    in_torch = answers()
    registry.add_export(version, tmp_path / "slow", slow.result)
    assert answers() == in_torch
    registry.add_export(version, tmp_path / "fast", fast.result)
    assert answers() == pytest.approx([1, 0.2, 0], abs=1e-6)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert answers() == in_torch


@pytest.mark.integration
def test_registered_model_needs_only_its_folder(
    registry: Registry, exported: Path, tmp_path: Path, tiny_images: list[Image.Image]
) -> None:
    """It is loaded in a process that cannot import this checkout, with the code that was logged with it."""
    version = register(registry, exported, "alone")
    registry.set_alias("alone", "champion", version.version)
    table(tiny_images[:2]).to_json(tmp_path / "images.json")
    script = (
        "import io, json, sys, mlflow, pandas\n"
        "served = mlflow.pyfunc.load_model('models:/alone@champion')\n"
        "answers = served.predict(pandas.read_json('images.json'))\n"
        "import backbones.create, heads.create, pipelines.inference.predictor\n"
        "homes = [m.__file__ for m in (backbones.create, heads.create, pipelines.inference.predictor)]\n"
        "needless = {'lightning', 'service'} & set(sys.modules)\n"
        "json.dump([answers, homes, list(needless)], open('out.json', 'w'))\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MLFLOW"))}
    environment |= {"MLFLOW_TRACKING_URI": registry.store.tracking_uri, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True, timeout=200)
    answers, homes, needless = json.loads((tmp_path / "out.json").read_text())
    expected = Predictor.from_exported(exported).predict([png(image) for image in tiny_images[:2]])
    for answer, prediction in zip(answers, expected, strict=True):
        assert_close(json.loads(answer), prediction)
    assert all("mlartifacts" in home for home in homes)
    assert needless == []


def test_registered_model_contains_code_and_weights_but_no_pickles(registry: Registry, exported: Path) -> None:
    register(registry, exported, "content")
    uri = connect(registry.store).get_model_version_download_uri("content", "1")
    folder = Path(urllib.request.url2pathname(uri.removeprefix("file://")))
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"MLmodel", "pyfunc.py", "artifacts/exported/model.safetensors", "code/heads/base.py"} <= names
    assert {"code/backbones/catalog/names.json", "code/pipelines/inference/predictor.py"} <= names
    assert {name.split("/")[1] for name in names if name.startswith("code/")} == {"backbones", "heads", "pipelines"}
    assert [name for name in names if name.endswith((".pkl", ".pt", ".pth", ".ckpt", ".pyc"))] == []
    assert set(pip_requirements()) <= set((folder / "requirements.txt").read_text().split())


@pytest.mark.slow
def test_mlflow_models_serve_answers_on_loopback(
    registry: Registry, exported: Path, tmp_path: Path, tiny_images: list[Image.Image]
) -> None:
    version = register(registry, exported, "serve")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # `mlflow models serve` starts uvicorn by its name.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"MLFLOW_TRACKING_URI": registry.store.tracking_uri, "PATH": path}
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", version.uri, "--env-manager", "local"]
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)], cwd=tmp_path, env=environment, start_new_session=True
    )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/ping", server)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"dataframe_split": table(tiny_images[:1]).to_dict("split")}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            predictions = json.load(answer)["predictions"]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(30)
    expected = Predictor.from_exported(exported).predict([png(tiny_images[0])])
    assert_close(json.loads(predictions[0]), expected[0])


def wait_until_healthy(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            try:
                server.wait(0.5)
            except subprocess.TimeoutExpired:
                continue
    pytest.fail("the server does not answer")


def assert_close(answer: Any, expected: Any) -> None:
    """Assert that texts and counts are equal, and numbers equal up to the effect of another number of threads."""
    if isinstance(expected, dict):
        assert list(answer) == list(expected)
        for key in expected:
            assert_close(answer[key], expected[key])
    elif isinstance(expected, list):
        assert len(answer) == len(expected)
        for one, other in zip(answer, expected, strict=True):
            assert_close(one, other)
    else:
        assert answer == (pytest.approx(expected, abs=1e-4) if isinstance(expected, float) else expected)
