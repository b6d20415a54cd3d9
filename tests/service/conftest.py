"""Fixtures of the service: the real API process with the test as its supervisor, and small registered models.

Torch is imported only in fixtures that need it, since most tests of the service run without it.
"""

import io
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from pipelines.base.records import Category
from pipelines.run_folder.files import write_atomic
from pipelines.spec.job import JobSpec
from pipelines.spec.learning import SelectSpec
from pipelines.tracking.mlflow_store import connect, find_experiment, find_store
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry
from service.child_process import child_environment, python_command
from service.client.client import Client
from service.settings import Settings
from service.states import FailureKind, JobStatus
from service.store.database import open_database
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import Job
from tests.service.command_runs import Finished, pyramidion, run_command
from tests.service.waiting import TIMEOUT_S, wait_until

ROOT = Path(__file__).resolve().parents[2]
RESULT = {
    "schema_version": 1,
    "split": "test",
    "summary": {"test/scene/accuracy": 0.75},
    "tasks": {
        "scene": {
            "kind": "classification", "num_images": 4, "accuracy": 0.75, "balanced_accuracy": 0.5, "macro_f1": 0.5,
            "mAP": 0.625, "top1_macro_recall": None, "per_class": [], "confusion_matrix": None,
        }
    },
    "select": {"metric": "val/scene/mAP", "mode": "max", "value": 0.5},
    "val": None,
    "model": {"backbone": "resnet14_thin"},
    "timing": {"train_s": 1.0},
    "versions": {"torch": "2"},
}  # fmt: skip
SELECT = SelectSpec(metric="val/shapes/AP50")


def jpeg(height: int, width: int, seed: int = 0) -> bytes:
    """Return random noise of a size as a JPEG file."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


class Served:
    """A service with the test as its supervisor, which writes to jobs what a supervisor would write."""

    def __init__(self, folder: Path, data_root: Path) -> None:
        self.settings = Settings(root=folder / "root", data_roots=(data_root,), cpus=4, gpus=0)
        self.settings.root.mkdir(parents=True)
        engine = open_database(self.settings.url_of_database)
        self.store = JobStore(engine)
        self.leases = LeasedStore(engine, "test")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self._log = folder / "api.log"
        self.start()

    def start(self) -> None:
        descriptor = self.listener.fileno()
        environment = child_environment({**os.environ, **self.settings.environment()})
        command = python_command("service.api.process", "--fd", str(descriptor))
        with self._log.open("ab") as log:
            self.api = subprocess.Popen(command, env=environment, pass_fds=[descriptor], stdout=log, stderr=log)

    def kill_api(self) -> None:
        self.api.kill()
        self.api.wait()

    def close(self) -> None:
        self.kill_api()
        self.listener.close()

    def client(self) -> Client:
        return Client(self.url)

    def run(self, *arguments: str, cwd: Path | None = None, **variables: str) -> Finished:
        """Run a `pyramidion` command that talks to this service in this process, and return its output."""
        environment = {"PYRAMIDION_URL": self.url, **variables}
        return run_command(*arguments, cwd=cwd or self.settings.root, environment=environment)

    def open(self, *arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        """Start a `pyramidion` command that talks to this service."""
        return subprocess.Popen(
            pyramidion(arguments), cwd=cwd or self.settings.root, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT), "PYRAMIDION_URL": self.url},
        )  # fmt: skip

    def claim(self, job_id: str) -> Job:
        """Take a job from the queue and start it."""
        job = self.leases.claim(job_id, ())
        assert job is not None
        self.settings.run_dir(job_id).joinpath("attempts/1").mkdir(parents=True)
        return self.leases.move(job, JobStatus.RUNNING)

    def record(self, job: Job, *events: tuple[str, dict[str, Any]], epoch: int = 0) -> Job:
        """Record events of the job's trainer."""
        new = [
            {"time": time.time(), "kind": kind, "epoch": epoch, "step": epoch + 1, "data": data}
            for kind, data in events
        ]
        return self.leases.record_events(job, new, job.events_offset + len(new))

    def log(self, job: Job, text: str) -> None:
        """Append to the log of the job's trainer."""
        with self.settings.run_dir(job.id).joinpath("attempts/1/log.txt").open("a") as file:
            file.write(text)

    def succeed(self, job: Job) -> None:
        write_atomic(self.settings.run_dir(job.id) / "result.json", json.dumps(RESULT))
        job = self.leases.move(job, JobStatus.FINALIZING)
        self.leases.end_attempt(job, "succeeded", 0)
        self.leases.move(job, JobStatus.SUCCEEDED)

    def fail(self, job: Job, kind: FailureKind, message: str) -> None:
        self.leases.end_attempt(job, "failed", 1)
        self.leases.move(job, JobStatus.FAILED, failure=(kind, message))


class OwnService:
    """`pyramidion serve` with its own folder and port; `cpus` is the number of cores that its jobs may use together."""

    def __init__(self, folder: Path, data_root: Path, cpus: int = 1) -> None:
        self.cpus = cpus
        self.root = folder / "root"
        self.url = ""
        self.process: subprocess.Popen[str] | None = None
        self._data_root = data_root
        self._log = folder / "serve.log"

    def start(self) -> str:
        """Start the service, and return the line with its address once it is ready."""
        arguments = ("serve", "--root", str(self.root), "--port", "0", "--data-root", str(self._data_root))
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                pyramidion(arguments), env=self.environment(), stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().rstrip("\n")
        assert line, self.log()
        self.url = line.split()[1].rstrip(",")
        return line

    def log(self) -> str:
        """Return the output of the service."""
        return self._log.read_text()

    def run(self, *arguments: str, cwd: Path | None = None, **variables: str) -> Finished:
        """Run a `pyramidion` command that talks to this service, and return its output."""
        environment = self.environment() | ({"PYRAMIDION_URL": self.url} if self.url else {}) | variables
        return subprocess.run(
            pyramidion(arguments), env=environment, cwd=cwd or self.root.parent, text=True, capture_output=True,
            timeout=240,
        )  # fmt: skip

    def check_settings(self, *arguments: str, **variables: str) -> Finished:
        """Run `pyramidion serve` in this process, with arguments that do not start a service, and return its output."""
        ours = [name for name in os.environ if name.startswith(("PYRAMIDION_", "MLFLOW_"))]
        environment = {**dict.fromkeys(ours), **variables}
        return run_command("serve", *arguments, cwd=self.root.parent, environment=environment)

    def environment(self) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYRAMIDION_", "MLFLOW_"))
        }
        return {**inherited, "PYTHONPATH": str(ROOT), "PYRAMIDION_CPUS": str(self.cpus), "PYRAMIDION_GPUS": "0"}

    def pid_of(self, module: str, *, kill: bool = False) -> int:
        """Wait for the process of a module, kill it if requested, and return its pid."""

        def find() -> psutil.Process | None:
            assert self.process is not None
            for child in psutil.Process(self.process.pid).children():
                with suppress(psutil.Error):  # a child that has just ended
                    if module in child.cmdline():
                        return child
            return None

        child: psutil.Process = wait_until(find, module)
        if kill:
            child.kill()
        return int(child.pid)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(TIMEOUT_S)


@pytest.fixture(scope="session")
def migrated_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database with the newest schema, which no process has open; migrations take 0.1 s."""
    path = tmp_path_factory.mktemp("database") / "service.db"
    open_database(f"sqlite:///{path}").dispose()
    return path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, demo_root: Path) -> Iterator[Served]:
    """A service with the test as its supervisor."""
    served = Served(tmp_path_factory.mktemp("served"), demo_root.parent)
    yield served
    served.close()


@pytest.fixture
def own_service(tmp_path: Path, demo_root: Path) -> Iterator[OwnService]:
    """A service that has not been started."""
    own = OwnService(tmp_path, demo_root.parent)
    yield own
    own.close()


@pytest.fixture(scope="session")
def job_yaml(tmp_path_factory: pytest.TempPathFactory, small: dict[str, Any]) -> Path:
    """The small document as a file."""
    path = tmp_path_factory.mktemp("documents") / "job.yaml"
    path.write_text(json.dumps(small))
    return path


@pytest.fixture(scope="session")
def exported(small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two exported models with different predictions; only the first has best thresholds, of which one is undefined."""
    import torch

    from pipelines.inference.export import export_model
    from pipelines.model import build_model

    job = JobSpec.model_validate(small)
    categories = {task: [Category(10 * k + 5, f"{task} {k}") for k in range(3)] for task in job.model.tasks}
    folders = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = build_model(job.model, categories)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        folders.append(tmp_path_factory.mktemp("exported"))
        best = {task: {f"{task} 0": 0.4, f"{task} 1": None, f"{task} 2": 0.55} for task in ("shapes", "scene")}
        export_model(model, job, categories, folders[-1], None if seed else best)
    return folders


@pytest.fixture(scope="session")
def service_registry(mlflow_runs_root: Path) -> Registry:
    """The registry of a service whose root is `mlflow_runs_root`."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        return Registry(find_store(mlflow_runs_root))


@pytest.fixture(scope="session")
def register(service_registry: Registry) -> Callable[[Path, str], ModelVersion]:
    """Register an exported model as the model of a new run."""
    client = connect(service_registry.store)
    experiment = find_experiment(client, service_registry.store, "tests")

    def register(folder: Path, name: str) -> ModelVersion:
        run_id = client.create_run(experiment).info.run_id
        metrics = {"val/shapes/AP50": 0.5}
        return service_registry.register(
            folder, name=name, run_id=run_id, metrics=metrics, select=SELECT, val_fingerprint="data 1"
        )

    return register


@pytest.fixture(scope="module")
def shapes(
    register: Callable[[Path, str], ModelVersion], exported: list[Path], request: pytest.FixtureRequest
) -> list[ModelVersion]:
    """Both exported models as versions of one model, named after the test module and its folder."""
    name = "-".join(request.module.__name__.split(".")[-2:])
    return [register(folder, name) for folder in exported]
