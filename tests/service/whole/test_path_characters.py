"""A root whose path has spaces, `%`, `?`, `#` and letters beyond ASCII works like any other.

MLflow's own store turns paths into URLs of files and of SQLAlchemy, and back.
"""

import io
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pipelines.tracking.mlflow_store import find_store
from tests.rest_story import picture
from tests.service.command_runs import run_command
from tests.service.waiting import wait_until
from tests.service.whole.conftest import Service

PARENT = "Läufe #1 of 100%41?"
"""A path that is decoded twice has an `A` in it, and one that is not decoded at all has `%25`."""
WAIT_S = 1200.0
Document = dict[str, Any]


@contextmanager
def running(root: Path, data_root: Path) -> Iterator[Service]:
    service = Service(root, data_root, 1)
    service.start()
    try:
        yield service
    finally:
        assert service.stop() == 0


def pyramidion(folder: Path, *arguments: str) -> None:
    done = run_command(*arguments, cwd=folder, environment={"MLFLOW_TRACKING_URI": None})
    assert done.returncode == 0, done.stdout + done.stderr


def answer(service: Service, method: str, path: str, **more: Any) -> httpx2.Response:
    """Repeat a request while a busy machine makes MLflow or the predictor late, as the answer asks for."""
    found: list[httpx2.Response] = []

    def is_served() -> bool:
        found.append(service.ask(method, path, **more))
        return found[-1].status_code != 503

    wait_until(is_served, path, WAIT_S)
    assert found[-1].status_code == 200, found[-1].text
    return found[-1]


def answers(service: Service) -> dict[str, Any]:
    """Return what the service has for the registered model."""
    version = answer(service, "GET", "/v1/models/odd/versions/1")
    archive = answer(service, "GET", "/v1/models/odd/versions/1/archive")
    more: dict[str, Any] = {"files": {"image": picture(1)}, "params": {"threshold": 0.01}}
    prediction = answer(service, "POST", "/v1/models/odd/predict", **more)
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as model:
        files = {member.name: member.size for member in model.getmembers()}
    return {"files": files, "document": version.json()["document"], "tasks": prediction.json()["tasks"]}


def logged_files(root: Path, folder: Path) -> list[str]:
    """Return the artifacts of the only run in the store of a root, read by MLflow's own client."""
    from mlflow import MlflowClient

    store = find_store(root)
    client = MlflowClient(store.tracking_uri, store.tracking_uri)
    (experiment,) = (one for one in client.search_experiments() if one.name == "odd")
    (run,) = client.search_runs([experiment.experiment_id])
    paths = sorted(str(file.path) for file in client.list_artifacts(run.info.run_id))
    for path in paths:
        assert Path(client.download_artifacts(run.info.run_id, path, str(folder))).exists()
    return paths


def places(root: Path) -> set[str]:
    """Return where MLflow keeps the files of its experiments, runs and models."""
    with closing(sqlite3.connect(root / "mlflow.db")) as store:
        found = store.execute(
            "SELECT artifact_location FROM experiments WHERE name = 'odd' UNION SELECT artifact_uri FROM runs "
            "UNION SELECT storage_location FROM model_versions"
        )
        return {place for (place,) in found}


@pytest.mark.integration
@pytest.mark.timeout(3600)
def test_training_artifacts_predictions_and_backups_work(
    small_document: Document, demo_root: Path, tmp_path: Path, no_mlflow_settings: None
) -> None:
    old, new = (tmp_path / PARENT / name for name in ("alter Ort", "neuer Ort"))
    old.parent.mkdir()
    small_document["trainer"]["max_epochs"] = 1
    small_document["tracking"] = {"experiment": "odd", "register_as": "odd"}
    with running(old, demo_root.parent) as service:
        job = service.submit(small_document)
        assert service.wait(job, WAIT_S)["status"] == "succeeded", service.describe(job)
        listed = [file["path"] for file in service.ask("GET", f"/v1/jobs/{job}/artifacts").json()["artifacts"]]
        assert "checkpoints/best.ckpt" in listed
        before = answers(service)
        pyramidion(tmp_path, "backup", str(old.parent / "Sicherung 1"), "--root", str(old))
    assert {path.name for path in tmp_path.iterdir()} == {PARENT}, "no file was written beside the folder"
    assert all(place.startswith(f"{old.as_uri()}/mlartifacts") for place in places(old)), places(old)
    files = logged_files(old, tmp_path)
    assert files != []

    pyramidion(tmp_path, "restore", str(old.parent / "Sicherung 1"), "--root", str(new))
    old.rename(tmp_path / "moved away")
    assert all(place.startswith(f"{new.as_uri()}/mlartifacts") for place in places(new)), places(new)
    assert logged_files(new, tmp_path) == files
    with running(new, demo_root.parent) as service:
        assert answers(service) == before
        again = service.submit(small_document)
        assert service.wait(again, WAIT_S)["status"] == "succeeded", service.describe(again)
        versions = answer(service, "GET", "/v1/models/odd").json()["versions"]
        assert {version["version"] for version in versions} == {1, 2}
