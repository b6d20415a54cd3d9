"""Real S3 servers on the loopback interface: one in a thread of the tests, and SeaweedFS as a process."""

import os
import secrets
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from tests.service.waiting import wait_until
from tests.unused_ports import unused_ports

BUCKET = "tests"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of the server, which has one bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    assert httpx2.put(f"{endpoint}/{BUCKET}").status_code == 200
    yield endpoint
    server.stop()


class StoppableS3:
    """A server that a test may stop and start again; connections are refused meanwhile, and its objects stay."""

    def __init__(self) -> None:
        [self._port] = unused_ports(1)
        self.endpoint = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self._port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        self._server.stop()


@pytest.fixture
def stoppable_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[StoppableS3]:
    """A server with one bucket; the variables by which clients reach it are set."""
    server = StoppableS3()
    server.start()
    assert httpx2.put(f"{server.endpoint}/{BUCKET}").status_code == 200
    set_variables(monkeypatch, server.endpoint)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def seaweedfs_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of SeaweedFS, which has one bucket."""
    folder = tmp_path_factory.mktemp("seaweedfs")
    master, volume, filer, s3 = unused_ports(4)
    command = [
        str(Path(sysconfig.get_path("scripts")) / "weed"), "server", f"-dir={folder}", "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1", f"-master.port={master}", "-master.telemetry=false",
        "-master.volumeSizeLimitMB=1024", f"-volume.port={volume}",
        "-volume.max=0", f"-filer.port={filer}", "-s3", "-s3.ip.bind=127.0.0.1", f"-s3.port={s3}",
        "-s3.port.iceberg=0", "-s3.port.lance=0",
    ]  # fmt: skip
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests"}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
    endpoint = f"http://127.0.0.1:{s3}"
    try:
        wait_until(lambda: answers(endpoint), "the start of SeaweedFS")
        with pytest.MonkeyPatch.context() as patch:
            set_variables(patch, endpoint)
            make_bucket()
        yield endpoint
    finally:
        server.kill()  # SIGTERM does not end it
        server.wait()


def answers(endpoint: str) -> bool:
    with suppress(httpx2.TransportError):
        return httpx2.get(f"{endpoint}/healthz").status_code == 200
    return False


def make_bucket() -> None:
    """Create the bucket; the server may need some seconds until its parts know each other."""
    import boto3
    from botocore.exceptions import ClientError

    def make() -> bool:
        with suppress(ClientError):
            boto3.client("s3").create_bucket(Bucket=BUCKET)
            return True
        return False

    wait_until(make, "the bucket")


def set_variables(patch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Set the variables by which clients reach a server."""
    variables = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }
    for name, value in variables.items():
        patch.setenv(name, value)


def unused_prefix() -> str:
    return f"s3://{BUCKET}/some/{secrets.token_hex(6)}"


@pytest.fixture
def s3_url(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An unused prefix of the bucket; the variables by which clients reach the server are set."""
    set_variables(monkeypatch, s3_endpoint)
    return unused_prefix()


@pytest.fixture
def seaweedfs_url(seaweedfs_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same as `s3_url` on SeaweedFS."""
    set_variables(monkeypatch, seaweedfs_endpoint)
    return unused_prefix()
