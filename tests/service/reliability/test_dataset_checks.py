"""Checks of uploaded data sets, whose archives are in S3, survive kills of the check and of the API."""

import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import psutil
import pytest
from PIL import Image

from service.datasets.leftovers import Leftovers
from service.storage.opening import open_storage
from service.store.datasets import DatasetStore
from tests.service.dataset_archives import write_dataset, zipped
from tests.service.dataset_requests import upload
from tests.service.reliability.cluster import Cluster

pytestmark = pytest.mark.reliability


@pytest.fixture
def cluster(tmp_path: Path, database_url: str, s3_url: str) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, database_url, storage_url=s3_url)
    yield cluster
    cluster.close()


def archive(folder: Path, number: int) -> bytes:
    """Return an archive that differs from those of other numbers."""
    write_dataset(folder)
    Image.new("RGB", (number + 1, 8)).save(folder / "other.png")
    return zipped(folder)


def check_processes(api: int) -> list[psutil.Process]:
    children = []
    for process in psutil.Process(api).children():
        with suppress(psutil.NoSuchProcess):
            if "service.datasets.check_process" in process.cmdline():
                children.append(process)
    return children


def require_ready_and_clean(cluster: Cluster, locations: set[str], client: httpx2.Client) -> None:
    """Wait until all versions are ready; then disk, storage and database must agree."""
    for location in locations:
        cluster.until(lambda path=location: client.get(path).json().get("status") == "ready")
    store = DatasetStore(cluster.engine)
    versions = store.page(None, limit=1000)
    assert {f"/v1/datasets/{one.name}/versions/{one.version}" for one in versions} >= locations
    datasets = cluster.settings.datasets_dir
    storage = open_storage(cluster.settings.storage_url, datasets, 20)
    cluster.until(lambda: not any(one.status == "checking" for one in store.page(None, limit=1000)))
    # As if the time after which nothing can be in progress were over.
    Leftovers(store, storage, datasets, -3600).remove()
    assert {key.owner for key in list(storage.keys())} == {one.id for one in versions}
    folders = {path.name for path in datasets.iterdir()} - {"incoming"}
    assert folders == {one.id for one in versions}
    assert list((datasets / "incoming").iterdir()) == []


@pytest.mark.timeout(1800)
def test_killed_checks_and_apis_lose_no_upload_and_leave_nothing(
    cluster: Cluster, tmp_path: Path, repetitions: int
) -> None:
    api, client = cluster.start_api()
    locations = set()
    for number in range(repetitions):
        content = archive(tmp_path / "shapes", number)
        time.sleep(random.uniform(0.0, 0.3))
        if number % 3 == 2:  # while the upload is received, stored or added
            with suppress(httpx2.TransportError):
                killer = psutil.Process(api.pid)
                with client.stream("POST", "/v1/datasets", **form(content, f"set{number}", killer)) as answer:
                    if answer.status_code == 202:
                        locations.add(answer.headers["location"])
        else:
            answer = upload(client, content, f"set{number}")
            assert answer.status_code == 202, answer.text
            locations.add(answer.headers["location"])
            (check, *_) = cluster.until(lambda pid=api.pid: check_processes(pid))
            time.sleep(random.uniform(0.0, 2.0))
            with suppress(psutil.NoSuchProcess):
                (check if number % 3 else psutil.Process(api.pid)).kill()
        if number % 3 != 1:
            api.kill()
            api.wait()
            client.close()
            api, client = cluster.start_api()
    require_ready_and_clean(cluster, locations, client)


def form(content: bytes, name: str, killed: psutil.Process) -> dict[str, object]:
    """Return the arguments of an upload during which a process is killed."""
    request = httpx2.Request("POST", "http://x/v1/datasets", data={"name": name}, files={"archive": content})
    body = request.read()

    def chunks() -> Iterator[bytes]:
        cut = random.randrange(len(body))
        yield body[:cut]
        yield body[cut:-1]
        if random.random() < 0.5:
            killed.kill()
        yield body[-1:]
        time.sleep(random.uniform(0.0, 0.05))
        killed.kill()

    return {"content": chunks(), "headers": {"Content-Type": request.headers["content-type"]}}


@pytest.mark.timeout(900)
def test_two_apis_check_each_version_once(cluster: Cluster, tmp_path: Path) -> None:
    clients = [cluster.start_api()[1] for _ in range(2)]
    locations = set()
    for number in range(12):
        answer = upload(clients[number % 2], archive(tmp_path / "shapes", number), f"set{number}")
        assert answer.status_code == 202, answer.text
        locations.add(answer.headers["location"])
    require_ready_and_clean(cluster, locations, clients[0])
    versions = DatasetStore(cluster.engine).page(None)
    assert {version.check_attempts for version in versions} == {1}
    assert len(versions) == 12
