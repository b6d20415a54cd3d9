"""The API with a real SQLite store, in this process for most tests and as a separate process for the others."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.settings import Settings
from service.states import FailureKind, JobStatus
from service.store.database import open_database
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import Job, NewJob
from tests.service.api.servers import LiveApi, api_process, serving
from tests.service.dataset_archives import write_dataset, zipped
from tests.service.dataset_requests import View, checked, upload
from tests.service.documents import detection_document

Document = dict[str, Any]


def run_to_failure(leases: LeasedStore, job_id: str) -> None:
    job = leases.claim(job_id, [])
    assert job is not None
    job = leases.move(job, JobStatus.RUNNING)
    leases.end_attempt(job, "failed", 65, "a loss is not finite")
    leases.move(job, JobStatus.FAILED, failure=(FailureKind.NUMERICS, "the loss boxes/box is not finite"))


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with one small data set, `shapes`: two images per split with one box each."""
    root = tmp_path_factory.mktemp("data")
    write_dataset(root / "shapes")
    return root


def settings_below(folder: Path, data_root: Path, database: Path) -> Settings:
    """Return the settings of a service with two cores, no GPU, and a copy of a database."""
    for name in ("weights", "service"):
        (folder / name).mkdir()
    shutil.copy(database, folder / "service")
    return Settings(
        root=folder / "service", data_roots=(data_root,), weights_roots=(folder / "weights",), cpus=2, gpus=0, port=0
    )


@pytest.fixture
def settings(tmp_path: Path, data_root: Path, migrated_path: Path) -> Settings:
    """Settings of a service with its own folder."""
    return settings_below(tmp_path, data_root, migrated_path)


@pytest.fixture
def document() -> Document:
    """A valid document for the data in `data_root`."""
    return detection_document()


@pytest.fixture(scope="session")
def serve() -> Callable[[Settings], AbstractContextManager[httpx2.Client]]:
    """Return `serving`, for tests with their own settings."""
    return serving


@pytest.fixture(scope="session")
def run_api() -> Callable[[Settings, Path], AbstractContextManager[tuple[subprocess.Popen[bytes], httpx2.Client]]]:
    """Return `api_process`, for tests of the process."""
    return api_process


@pytest.fixture(scope="session")
def archive(data_root: Path) -> bytes:
    """The data set `shapes` as a zip."""
    return zipped(data_root / "shapes")


@pytest.fixture
def api(settings: Settings) -> Iterator[httpx2.Client]:
    """A client of the application over the store of `settings`."""
    with serving(settings) as client:
        yield client


@pytest.fixture(scope="session")
def shared_settings(tmp_path_factory: pytest.TempPathFactory, data_root: Path, migrated_path: Path) -> Settings:
    """Settings of `shared_api`."""
    return settings_below(tmp_path_factory.mktemp("shared"), data_root, migrated_path)


@pytest.fixture(scope="session")
def shared_api(shared_settings: Settings) -> Iterator[httpx2.Client]:
    """A client of one application for all tests that can share its jobs; it starts once."""
    with serving(shared_settings) as client:
        yield client


@pytest.fixture(scope="session")
def uploaded(shared_api: httpx2.Client, archive: bytes) -> View:
    """A version that is ready."""
    return checked(shared_api, upload(shared_api, archive))


@pytest.fixture
def store(settings: Settings) -> Iterator[JobStore]:
    """The store of `api`, as the API writes to it."""
    engine = open_database(settings.url_of_database)
    yield JobStore(engine)
    engine.dispose()


@pytest.fixture
def leases(settings: Settings) -> Iterator[LeasedStore]:
    """The store of `api`, as a supervisor writes to it."""
    engine = open_database(settings.url_of_database)
    yield LeasedStore(engine, "tests")
    engine.dispose()


@pytest.fixture
def submit(api: httpx2.Client, document: Document) -> Callable[..., str]:
    """Submit `document` with other keys of the body, and return the job's id."""

    def submit(**more: Any) -> str:
        answer = api.post("/v1/jobs", json={"config": document, **more})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    return submit


@pytest.fixture
def live_api(settings: Settings, tmp_path: Path) -> Iterator[LiveApi]:
    """The real API process; it may still be starting."""
    live = LiveApi(settings, tmp_path / "api.log")
    yield live
    live.close()


@pytest.fixture
def queued_job(store: JobStore, document: Document) -> Callable[[], Job]:
    """Put a job into the store, as the API would, and return it."""
    return lambda: store.submit(NewJob(name="shapes", config=document, priority=0, cpus=1, gpus=0))[0]


@pytest.fixture
def running_job(queued_job: Callable[[], Job], leases: LeasedStore) -> Callable[[], Job]:
    """Put a job into the store and start its first attempt, as a supervisor would."""

    def running() -> Job:
        job = leases.claim(queued_job().id, [])
        assert job is not None
        return leases.move(job, JobStatus.RUNNING)

    return running


@pytest.fixture
def end_job(leases: LeasedStore) -> Callable[[Job], Job]:
    """End a running job as succeeded."""

    def end(job: Job) -> Job:
        leases.end_attempt(job, "succeeded", 0)
        return leases.move(leases.move(job, JobStatus.FINALIZING), JobStatus.SUCCEEDED)

    return end


@pytest.fixture
def record(leases: LeasedStore) -> Callable[..., Job]:
    """Record an event of a running job for each step, as a supervisor would."""

    def record(job: Job, steps: Sequence[int], **data: Any) -> Job:
        new = [{"time": time.time(), "kind": "metric", "epoch": 0, "step": step, "data": data} for step in steps]
        return leases.record_events(job, new, job.events_offset + len(new))

    return record
