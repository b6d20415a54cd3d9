"""State that an earlier version has written is read, resumed, served and migrated.

`previous_version.tar.xz` is the folder of a service of revision 03ba662 (0.1.0) after `kill -9` of all its processes: a
database with a job that has succeeded, one that was training, one that was cancelled and one in the queue; their run
folders; the MLflow store with a registered model; and `predictions.json`, the model's answer for one image. Plots and
the copy of the code in the model's artifacts were removed. The data set is `data synth` with the sizes below.
"""

import json
import math
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.data.synth.dataset import write_synthetic
from service.client.client import Client
from service.states import JobStatus
from tests.service.conftest import OwnService
from tests.service.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = Path(__file__).with_name("previous_version.tar.xz")
OLD_FOLDER = "/tmp/pyramidion-previous"
FINISHED, INTERRUPTED, CANCELLED, QUEUED = "50dc84f04719", "0c8547953dde", "b46447ff6412", "5eb542c2466a"
IMAGE = "data/demo/images/test/000001.jpg"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the archive with its data set; recorded paths are changed to its place."""
    folder = tmp_path_factory.mktemp("previous")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    for path in folder.rglob("*"):
        if path.suffix in {".json", ".jsonl", ".yaml", ".txt"} or path.name == "MLmodel":
            path.write_text(path.read_text().replace(OLD_FOLDER, str(folder)))
    move_mlflow_store(folder / "service/mlflow.db", str(folder))
    write_synthetic(folder / "data/demo", num_train=12, num_val=4, num_test=4, image_size=128)
    return folder


def move_mlflow_store(database: Path, folder: str) -> None:
    with sqlite3.connect(database) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for _, column, *_ in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
                connection.execute(
                    f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) WHERE "{column}" LIKE ?',
                    (OLD_FOLDER, folder, f"%{OLD_FOLDER}%"),
                )
    connection.close()


@pytest.fixture
def folder(unpacked: Path) -> Iterator[Path]:
    """The folder, in the same place for each test and as it was unpacked."""
    kept = unpacked.with_name("kept")
    shutil.copytree(unpacked, kept, dirs_exist_ok=True)
    yield unpacked
    shutil.rmtree(unpacked)
    kept.rename(unpacked)


def pyramidion(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "service.cli", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, env=environment())
    assert done.returncode == 0, done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    return {"PATH": "", "HOME": "/", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def assert_close(got: Any, expected: Any) -> None:
    """Compare JSON documents; numbers may differ by the rounding of another processor."""
    if isinstance(expected, dict):
        assert got.keys() >= expected.keys()
        for key, value in expected.items():
            assert_close(got[key], value)
    elif isinstance(expected, list):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_close(one, other)
    elif isinstance(expected, float):
        assert math.isclose(got, expected, rel_tol=1e-3, abs_tol=1e-3)
    else:
        assert got == expected


def test_a_finished_run_is_evaluated_again_with_the_same_metrics(folder: Path) -> None:
    run_dir = folder / "service/jobs" / FINISHED
    pyramidion(folder, "test", "--run-dir", str(run_dir), "--data-root", "data")
    (evaluation,) = (run_dir / "eval").iterdir()
    recorded = json.loads((run_dir / "result.json").read_text())["summary"]
    repeated = json.loads((evaluation / "result.json").read_text())["summary"]
    assert_close(repeated, recorded)


def test_the_state_of_every_callback_is_restored_from_a_checkpoint(folder: Path) -> None:
    import torch

    run_dir = folder / "service/jobs" / INTERRUPTED
    checkpoint = run_dir / "checkpoints/last.ckpt"
    before = torch.load(checkpoint, weights_only=True)["callbacks"]
    words = ("--config", str(run_dir / "job.yaml"), "--data-root", "data", "--run-dir", str(run_dir))
    pyramidion(folder, "fit", *words)
    after = torch.load(checkpoint, weights_only=True)["callbacks"]
    assert before.keys() == after.keys()
    assert after["Best"]["best"] >= before["Best"]["best"] >= 0
    assert after["Progress"]["train_s"] > before["Progress"]["train_s"]


def test_an_exported_model_predicts_the_same(folder: Path) -> None:
    from pipelines.inference.predictor import Predictor

    predictor = Predictor.from_exported(folder / "service/jobs" / FINISHED / "model", device="cpu")
    (expected,) = json.loads((folder / "predictions.json").read_text())
    (answer,) = predictor.predict([folder / IMAGE])
    del expected["file"]
    assert_close(json.loads(json.dumps(answer)), expected)


def test_a_service_continues_on_the_folder_and_database_of_the_previous_version(folder: Path) -> None:
    service = OwnService(folder, folder / "data", cpus=2)
    service.root = folder / "service"
    service.start()
    try:
        listed = json.loads(service.run("jobs", "--json").stdout)
        assert {job["id"] for job in listed} == {FINISHED, INTERRUPTED, CANCELLED, QUEUED}
        results = json.loads(service.run("results", FINISHED, "--json").stdout)
        assert results == json.loads((folder / "service/jobs" / FINISHED / "result.json").read_text())
        assert "result in" in service.run("logs", FINISHED).stdout
        (expected,) = json.loads((folder / "predictions.json").read_text())
        (answer,) = json.loads(service.run("predict", "--model", "previous@champion", str(folder / IMAGE)).stdout)
        assert_close(answer["tasks"], expected["tasks"])

        def succeeded() -> bool:
            time.sleep(0.5)
            with Client(service.url) as client:
                statuses = {job.id: job.status for job in client.jobs()}
            assert JobStatus.FAILED not in statuses.values(), service.log()
            return statuses[INTERRUPTED] == statuses[QUEUED] == JobStatus.SUCCEEDED

        wait_until(succeeded, "both jobs", timeout_s=120)
        resumed = json.loads(service.run("show", INTERRUPTED, "--json").stdout)
        assert [attempt["number"] for attempt in resumed["attempts"]] == [1, 2]
        assert "resum" in service.run("logs", INTERRUPTED).stdout
        assert json.loads(service.run("show", CANCELLED, "--json").stdout)["status"] == "cancelled"
    finally:
        service.close()
