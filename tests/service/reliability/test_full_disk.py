"""A full disk of the database: nothing is accepted, nothing is lost, and everything continues when there is space."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.states import JobStatus
from service.store.errors import StoreUnavailable
from tests.postgres import PostgresServer, create_database
from tests.service.reliability.cluster import SCRIPT, Cluster

pytestmark = pytest.mark.reliability

SIZES = {"sqlite": "4m", "postgresql": "120m"}


@pytest.fixture
def disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A small disk of its own, in a folder that the user of the server can reach."""
    disk = Path(tempfile.mkdtemp(prefix="pyramidion-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZES[request.param]},mode=755", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        disk.rmdir()
        pytest.skip("only root may mount a file system, if the container allows it")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)
    disk.rmdir()


def fill(disk: Path) -> Path:
    """Write a file until the disk is full."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return path


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
