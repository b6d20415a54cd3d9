"""Downloads of files that a running job changes."""

import asyncio
import hashlib
import os
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response, StreamingResponse

from service.api.artifacts import repr_digest
from service.api.download import download
from service.api.file_digests import file_state
from service.api.thread_pools import ThreadPools
from service.rest.problems import Problem
from service.settings import Settings


@pytest.fixture
def request_of_client(tmp_path: Path) -> Request:
    app = FastAPI()
    app.state.pools = ThreadPools(Settings(root=tmp_path / "root"))
    return Request({"type": "http", "headers": [], "app": app})


def body_of(response: Response) -> bytes:
    assert isinstance(response, StreamingResponse)

    async def read() -> bytes:
        return b"".join([bytes(chunk) async for chunk in response.body_iterator])

    return asyncio.run(read())


def test_file_that_is_replaced_during_its_download_keeps_its_checksum(
    request_of_client: Request, tmp_path: Path
) -> None:
    path, newer = tmp_path / "last.ckpt", tmp_path / "newer"
    path.write_bytes(b"old" * 100_000)
    response = download(request_of_client, path, "application/octet-stream")
    newer.write_bytes(b"new" * 200_000)
    newer.replace(path)
    received = body_of(response)
    assert response.headers["content-length"] == str(len(received))
    assert response.headers["repr-digest"] == repr_digest(hashlib.sha256(received).digest())
    assert received == b"old" * 100_000


def test_changed_file_has_another_checksum(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    digests = []
    for content in (b"one", b"two", b"longer"):
        path.write_bytes(content)
        os.utime(path, ns=(len(digests), len(digests)))
        state = file_state(path)
        assert state is not None
        digests.append(state.sha256)
        assert digests[-1] == hashlib.sha256(content).digest()


def test_file_that_was_deleted_meanwhile_does_not_exist(request_of_client: Request, tmp_path: Path) -> None:
    assert file_state(tmp_path / "gone") is None
    with pytest.raises(Problem) as caught:
        download(request_of_client, tmp_path / "gone", "text/plain")
    assert caught.value.status_code == 404
