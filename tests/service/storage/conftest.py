"""A real S3 server on the loopback interface, which one thread of the tests serves."""

import secrets
from collections.abc import Iterator

import httpx2
import pytest

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


@pytest.fixture
def s3_url(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An unused prefix of the bucket; the variables by which clients reach the server are set."""
    variables = {
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/some/{secrets.token_hex(6)}"
