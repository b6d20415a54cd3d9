"""The registry against a real MLflow store in SQLite."""

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

from pipelines.data.records import Category
from pipelines.errors import RegistryError
from pipelines.export import export_model
from pipelines.mlflow_store import Store, connect, find_experiment, find_store
from pipelines.model import MultiTaskModel
from pipelines.predictor import Predictor
from pipelines.pyfunc_folder import pip_requirements
from pipelines.registry import ModelVersion, Registry
from pipelines.spec.job import JobSpec
from pipelines.spec.model import SelectSpec

pytestmark = pytest.mark.usefixtures("no_mlflow_settings")

Categories = dict[str, list[Category]]
SELECT = SelectSpec(metric="val/cells/AP", mode="max")


@pytest.fixture(scope="module")
def exported(
    tiny_model: MultiTaskModel,
    tiny_job: JobSpec,
    tiny_categories: Categories,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export_model(tiny_model, tiny_job, tiny_categories, folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is registered where nobody loads it: the registry does not look into it."""
    folder = tmp_path_factory.mktemp("folder")
    (folder / "model.json").write_text("{}")
    return folder


@pytest.fixture
def store(mlflow_runs_root: Path) -> Store:
    return find_store(mlflow_runs_root)


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store)


@pytest.fixture
def in_store(no_mlflow_settings: None, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user does before `mlflow.pyfunc.load_model`; what loading adds to the path is taken off again."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri)
    monkeypatch.setattr(sys, "path", list(sys.path))


def register(registry: Registry, exported: Path, name: str, ap: float | None, data: str = "data 1") -> ModelVersion:
    """Register the exported model as that of a new run."""
    client = connect(registry.store)
    run_id = client.create_run(find_experiment(client, registry.store, "tests")).info.run_id
    return registry.register(
        exported, name=name, run_id=run_id, metrics={"val/cells/AP": ap}, select=SELECT, val_fingerprint=data
    )


def never(version: ModelVersion) -> float:
    pytest.fail(f"{version} was scored")


def table(images: list[Image.Image]) -> pd.DataFrame:
    return pd.DataFrame({"image": [base64.b64encode(png(image)).decode() for image in images]})


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_registering_a_run_twice_makes_one_version(registry: Registry, folder: Path) -> None:
    client = connect(registry.store)
    run_id = client.create_run(find_experiment(client, registry.store, "tests")).info.run_id
    metrics = {"val/cells/AP": 1 / 3, "val/cells/APl": None}
    versions = [
        registry.register(
            folder,
            name="twice",
            run_id=run_id,
            metrics=metrics,
            select=SELECT,
            val_fingerprint="data 1",
            tags={"git": "abc"},
        )
        for _ in range(2)
    ]
    assert versions[0] == versions[1]
    assert registry.versions("twice") == versions[:1]
    version = versions[0]
    assert (version.version, version.aliases, version.run_id) == (1, ("candidate",), run_id)
    assert version.metric("val/cells/AP") == 1 / 3
    assert version.metric("val/cells/APl") is None
    assert version.val_fingerprint == "data 1"
    assert version.tags["git"] == "abc"
    assert client.get_run(run_id).outputs.model_outputs
    assert list(Path().iterdir()) == []


def test_a_job_owns_its_version_whatever_its_run(registry: Registry, folder: Path) -> None:
    client = connect(registry.store)
    experiment = find_experiment(client, registry.store, "tests")
    versions = [
        registry.register(
            folder,
            name="job",
            run_id=client.create_run(experiment).info.run_id,
            metrics={},
            select=SELECT,
            val_fingerprint="data 1",
            job_id="job 7",
        )
        for _ in range(2)
    ]
    assert [version.version for version in versions] == [1, 1]


def test_the_newest_version_is_the_candidate_and_stays_it(registry: Registry, folder: Path) -> None:
    first = register(registry, folder, "newest", 0.5)
    second = register(registry, folder, "newest", 0.4)
    again = registry.register(
        folder, name="newest", run_id=str(first.run_id), metrics={}, select=SELECT, val_fingerprint="data 1"
    )
    assert again.version == first.version == 1
    assert [v.version for v in registry.versions("newest")] == [2, 1]
    candidate = registry.by_alias("newest", "candidate")
    assert candidate is not None
    assert candidate.version == second.version == 2


def test_the_first_version_becomes_champion(registry: Registry, folder: Path) -> None:
    version = register(registry, folder, "first", 0.5)
    outcome = registry.promote_if_better(version, select=SELECT, val_fingerprint="data 1", score=never)
    assert (outcome.is_promoted, outcome.reason) == (True, "first")
    champion = registry.by_alias("first", "champion")
    assert champion is not None
    assert champion.aliases == ("candidate", "champion")
    again = registry.promote_if_better(version, select=SELECT, val_fingerprint="data 1", score=never)
    assert (again.is_promoted, again.reason) == (False, "same")


@pytest.mark.parametrize(
    ("mode", "value", "is_promoted"),
    [("max", 0.6, True), ("max", 0.5, False), ("max", 0.4, False), ("min", 0.4, True), ("min", 0.6, False)],
)
def test_on_the_same_data_stored_numbers_decide(
    mode: str, value: float, is_promoted: bool, registry: Registry, folder: Path
) -> None:
    name = f"stored-{mode}-{value}".replace(".", "_")
    select = SelectSpec.model_validate({"metric": "val/cells/AP", "mode": mode})
    champion = register(registry, folder, name, 0.5)
    registry.set_alias(name, "champion", champion.version)
    challenger = register(registry, folder, name, value)
    outcome = registry.promote_if_better(challenger, select=select, val_fingerprint="data 1", score=never)
    assert (outcome.is_promoted, outcome.reason, outcome.champion_value) == (is_promoted, "stored", 0.5)
    now = registry.by_alias(name, "champion")
    assert now is not None
    assert now.version == (2 if is_promoted else 1)


@pytest.mark.parametrize(("scored", "is_promoted"), [(0.3, True), (0.7, False), (None, False), (float("nan"), False)])
def test_on_other_data_the_champion_is_scored_anew(
    scored: float | None, is_promoted: bool, registry: Registry, folder: Path
) -> None:
    name = f"scored-{scored}".replace(".", "_")
    champion = register(registry, folder, name, 0.9, data="data of last year")
    registry.set_alias(name, "champion", champion.version)
    challenger = register(registry, folder, name, 0.5)
    asked: list[int] = []

    def score(version: ModelVersion) -> float | None:
        asked.append(version.version)
        return scored

    outcome = registry.promote_if_better(challenger, select=SELECT, val_fingerprint="data 1", score=score)
    assert asked == [1]
    assert outcome.is_promoted == is_promoted
    assert outcome.reason == ("scored" if scored in (0.3, 0.7) else "undefined")
    now = registry.by_alias(name, "champion")
    assert now is not None
    assert now.version == (2 if is_promoted else 1)


def test_a_version_without_the_number_is_no_champion(registry: Registry, folder: Path) -> None:
    version = register(registry, folder, "undefined", None)
    outcome = registry.promote_if_better(version, select=SELECT, val_fingerprint="data 1", score=never)
    assert (outcome.is_promoted, outcome.reason) == (False, "undefined")
    assert registry.by_alias("undefined", "champion") is None


def test_the_export_of_a_version_comes_back_whole(
    registry: Registry, exported: Path, tmp_path: Path, tiny_images: list[Image.Image]
) -> None:
    version = register(registry, exported, "download", 0.5)
    folder = registry.download_exported(version, tmp_path)
    assert Predictor.from_exported(folder).predict(tiny_images[:1]) == Predictor.from_exported(exported).predict(
        tiny_images[:1]
    )


def test_names_that_are_not_there_have_no_versions(registry: Registry) -> None:
    assert registry.versions("nobody") == []
    assert registry.by_alias("nobody", "champion") is None
    assert "nobody" not in registry.names()


def test_a_store_that_does_not_answer_is_a_registry_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    with pytest.raises(RegistryError, match=f"127.0.0.1:{port}") as caught:
        Registry(Store(f"http://me:secret@127.0.0.1:{port}")).versions("any")
    assert "secret" not in str(caught.value)


@pytest.mark.usefixtures("in_store")
def test_the_loaded_pyfunc_answers_as_the_predictor(
    registry: Registry, exported: Path, tiny_images: list[Image.Image]
) -> None:
    version = register(registry, exported, "pyfunc", 0.5)
    served = mlflow.pyfunc.load_model(version.uri)
    expected = Predictor.from_exported(exported).predict([png(image) for image in tiny_images])
    assert [json.loads(text) for text in served.predict(table(tiny_images))] == expected
    assert served.metadata.signature.inputs.to_dict() == [{"type": "string", "name": "image", "required": True}]
    assert len(served.predict(served.input_example)) == 1

    with TestClient(scoring_server.init(served)) as client:
        body = {"dataframe_split": table(tiny_images[:2]).to_dict("split")}
        answer = client.post("/invocations", json=body)
        assert answer.status_code == 200
        assert [json.loads(text) for text in answer.json()["predictions"]] == expected[:2]
        broken = client.post("/invocations", json={"dataframe_records": [{"image": "?"}]})
        assert broken.status_code == 400
        assert "image in row 0" in broken.text


def test_a_registered_model_needs_nothing_but_its_folder(
    registry: Registry, exported: Path, tmp_path: Path, tiny_images: list[Image.Image]
) -> None:
    """It is loaded in a process that cannot import this checkout, with code that was logged beside it."""
    version = register(registry, exported, "alone", 0.5)
    registry.set_alias("alone", "champion", version.version)
    table(tiny_images[:2]).to_json(tmp_path / "images.json")
    script = (
        "import io, json, sys, mlflow, pandas\n"
        "served = mlflow.pyfunc.load_model('models:/alone@champion')\n"
        "answers = served.predict(pandas.read_json('images.json'))\n"
        "import backbones.create, heads.create, pipelines.predictor\n"
        "homes = [m.__file__ for m in (backbones.create, heads.create, pipelines.predictor)]\n"
        "json.dump([answers, homes, 'lightning' in sys.modules], open('out.json', 'w'))\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MLFLOW"))}
    environment |= {"MLFLOW_TRACKING_URI": registry.store.tracking_uri, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True, timeout=200)
    answers, homes, has_lightning = json.loads((tmp_path / "out.json").read_text())
    expected = Predictor.from_exported(exported).predict([png(image) for image in tiny_images[:2]])
    for answer, by_hand in zip(answers, expected, strict=True):
        assert_close(json.loads(answer), by_hand)
    assert all("mlartifacts" in home for home in homes)
    assert not has_lightning


def test_a_registered_model_carries_code_and_weights_and_no_pickles(registry: Registry, exported: Path) -> None:
    register(registry, exported, "content", 0.5)
    uri = connect(registry.store).get_model_version_download_uri("content", "1")
    folder = Path(urllib.request.url2pathname(uri.removeprefix("file://")))
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"MLmodel", "pyfunc.py", "artifacts/exported/model.safetensors", "code/heads/base.py"} <= names
    assert {"code/backbones/names.json", "code/pipelines/predictor.py", "code/service/__init__.py"} <= names
    assert [name for name in names if name.endswith((".pkl", ".pt", ".pth", ".ckpt", ".pyc"))] == []
    assert set(pip_requirements()) <= set((folder / "requirements.txt").read_text().split())


@pytest.mark.slow
def test_mlflow_models_serve_answers_on_loopback(
    registry: Registry, exported: Path, tmp_path: Path, tiny_images: list[Image.Image]
) -> None:
    version = register(registry, exported, "serve", 0.5)
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
    """Texts and counts are equal, numbers within what another number of threads changes."""
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
