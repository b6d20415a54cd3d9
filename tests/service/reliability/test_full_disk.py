"""A full disk of the database: nothing is accepted, nothing is lost, and everything continues when there is space."""

import io
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from service.states import JobStatus
from service.store.errors import StoreUnavailable
from tests.postgres import PostgresServer, create_database
from tests.service.dataset_archives import write_dataset, zipped
from tests.service.dataset_requests import checked, upload
from tests.service.reliability.cluster import SCRIPT, Cluster
from tests.small_disk import fill, small_disk

pytestmark = pytest.mark.reliability

SIZES = {"sqlite": "4m", "postgresql": "120m", "uploads": "64m"}


@pytest.fixture
def disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    with small_disk(SIZES[request.param]) as disk:
        yield disk


@pytest.mark.parametrize("disk", ["sqlite"], indirect=True)
def test_sqlite_on_a_full_disk_refuses_and_recovers(disk: Path, tmp_path: Path) -> None:
    check(Cluster(tmp_path, f"sqlite:///{disk / 'service.db'}"), disk)


@pytest.mark.parametrize("disk", ["postgresql"], indirect=True)
def test_postgresql_on_a_full_disk_refuses_and_recovers(disk: Path, tmp_path: Path) -> None:
    server = PostgresServer({"max_wal_size": "32MB", "min_wal_size": "8MB"}, below=disk)
    try:
        check(Cluster(tmp_path, create_database(server.folder)), disk, server)
    finally:
        server.close()


def check(cluster: Cluster, disk: Path, server: PostgresServer | None = None) -> None:
    try:
        cluster.start_supervisor()
        _, client = cluster.start_api()
        running = cluster.submit(SCRIPT.format(seconds=20))
        cluster.until(lambda: cluster.store.get(running.id).status is JobStatus.RUNNING)
        accepted, filler = [running], fill(disk)
        with pytest.raises(StoreUnavailable):  # noqa: PT012
            for number in range(100_000):
                accepted.append(cluster.submit(SCRIPT.format(seconds=0.02) + "#" * 2000, key=f"key {number}"))
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").status_code == 503
        filler.unlink()
        if server is not None and server.process is not None and server.process.poll() is not None:
            server.start()
        cluster.until(lambda: client.get("/readyz").status_code == 200)
        known = {job.id for job in cluster.store.page(limit=100_000)}
        assert {job.id for job in accepted} <= known, "what was accepted is there"
        for job in cluster.store.page(limit=100_000):
            if job.id != running.id:
                cluster.store.request_cancel(job.id)
        cluster.check_each_ran_alone([running])
    finally:
        cluster.close()


MIB = 1 << 20


def sparse_zip(num_bytes: int) -> bytes:
    """Return a small archive whose files are large."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.png", bytes(num_bytes))
    return content.getvalue()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("disk", ["uploads"], indirect=True)
def test_uploads_leave_the_free_space_that_running_jobs_need(disk: Path, tmp_path: Path) -> None:
    cluster = Cluster(disk, f"sqlite:///{tmp_path / 'service.db'}", min_free_bytes=16 * MIB)
    datasets = cluster.settings.datasets_dir

    def files() -> set[Path]:
        return {path for path in datasets.rglob("*") if path.is_file()}

    def require_space_and_files(expected: set[Path]) -> None:
        cluster.until(lambda: files() == expected)
        assert shutil.disk_usage(disk).free >= 16 * MIB

    try:
        _, client = cluster.start_api()
        write_dataset(tmp_path / "shapes")
        archive = zipped(tmp_path / "shapes")
        assert checked(client, upload(client, archive))["status"] == "ready"
        before = files()

        # Known beforehand, found while it arrives, and found when the archive would be copied into the storage.
        assert upload(client, b"PK\x03\x04" + bytes(60 * MIB), "declared").status_code == 507
        require_space_and_files(before)
        form = client.build_request("POST", "/v1/datasets", data={"name": "x"}, files={"archive": b"PK\x03\x04"})
        head, _, end = form.read().partition(b"PK\x03\x04")
        for num_mib in (60, 30):

            def chunks(num_mib: int = num_mib) -> Iterator[bytes]:
                yield head + b"PK\x03\x04"
                for _ in range(num_mib):
                    yield bytes(MIB)
                yield end

            headers = {"Content-Type": form.headers["content-type"]}
            with suppress(httpx2.WriteError):  # the server closes the connection before it has read everything
                answer = client.post("/v1/datasets", content=chunks(), headers=headers)
                assert answer.status_code == 507, answer.text
            require_space_and_files(before)

        # The extracted files do not fit; the check waits until they do.
        answer = upload(client, sparse_zip(50 * MIB), "sparse")
        assert answer.status_code == 202
        view = cluster.until(lambda: (found := client.get(answer.headers["location"]).json())["message"] and found)
        assert (view["status"], "PYRAMIDION_MIN_FREE_BYTES" in view["message"]) == ("checking", True)
        (stored,) = files() - before
        require_space_and_files({*before, stored})

        filler = disk / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(disk).free - 10 * MIB))
        refused = upload(client, archive, "refused")
        assert (refused.status_code, refused.json()["title"]) == (507, "The disk is almost full")
        assert client.get("/readyz").status_code == 503
        filler.unlink()
        assert checked(client, upload(client, archive, "again"))["status"] == "ready"
    finally:
        cluster.close()
