"""Limits, deadlines and outages of uploads hold while bytes arrive."""

import asyncio
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack

import httpx2
import pytest
from fastapi import Request
from starlette.types import Message

from service.api.multipart import FormStream
from service.api.thread_pools import ThreadPools, Work
from service.api.uploads import Uploads
from service.rest.problems import Problem
from service.settings import Settings
from tests.service.api.servers import NO_TLS
from tests.service.dataset_requests import files_below, upload
from tests.service.waiting import TIMEOUT_S, wait_until

Serve = Callable[[Settings], AbstractContextManager[httpx2.Client]]


def test_limits_hold_for_declared_and_for_streamed_bodies(serve: Serve, settings: Settings, archive: bytes) -> None:
    small = settings.model_copy(update={"max_upload_bytes": 1000})
    large = archive + bytes(200_000)
    with serve(small) as api:
        assert upload(api, large).status_code == 413
        request = api.build_request("POST", "/v1/datasets", data={"name": "x"}, files={"archive": ("a", large)})
        body = request.read()

        def chunks() -> Iterator[bytes]:
            yield from (body[start : start + 5000] for start in range(0, len(body), 5000))

        headers = {"Content-Type": request.headers["content-type"]}
        answer = api.post("/v1/datasets", content=chunks(), headers=headers)
        assert (answer.status_code, "PYRAMIDION_MAX_UPLOAD_BYTES" in answer.text) == (413, True)
        wait_until(lambda: not files_below(settings.datasets_dir), "the removal of the upload")


def test_quota_and_full_disk_are_refused(serve: Serve, settings: Settings, archive: bytes) -> None:
    with serve(settings.model_copy(update={"dataset_quota_bytes": 1000})) as api:
        answer = upload(api, archive)
        assert (answer.status_code, "PYRAMIDION_DATASET_QUOTA_BYTES" in answer.json()["detail"]) == (413, True)
    with serve(settings.model_copy(update={"max_upload_bytes": 1 << 62, "dataset_quota_bytes": 1 << 62})) as api:
        connection = http.client.HTTPConnection("127.0.0.1", api.base_url.port, timeout=30)
        connection.putrequest("POST", "/v1/datasets")
        connection.putheader("Content-Type", "multipart/form-data; boundary=x")
        connection.putheader("Content-Length", str(1 << 60))
        connection.endheaders()
        answer = connection.getresponse()
        assert (answer.status, json.load(answer)["title"]) == (507, "The disk is almost full")
        connection.close()
        wait_until(lambda: not files_below(settings.datasets_dir), "the removal of the upload")


def test_disk_that_becomes_almost_full_during_an_upload_ends_it(
    serve: Serve, settings: Settings, archive: bytes
) -> None:
    incoming = settings.datasets_dir / "incoming"
    with serve(settings) as api:
        assert upload(api, archive, "before").status_code == 202
        before = files_below(settings.datasets_dir / "archives")
        request = api.build_request("POST", "/v1/datasets", data={"name": "x"}, files={"archive": archive})
        head, _, end = request.read().partition(archive)

        def chunks() -> Iterator[bytes]:
            yield head + archive + bytes(2 << 20)
            wait_until(lambda: any(path.stat().st_size for path in incoming.iterdir()), "the first part")
            # As if other processes had filled the disk.
            object.__setattr__(settings, "min_free_bytes", 1 << 60)
            yield b"more" + end

        answer = api.post("/v1/datasets", content=chunks(), headers={"Content-Type": request.headers["content-type"]})
        assert (answer.status_code, answer.json()["title"]) == (507, "The disk is almost full")
        assert "PYRAMIDION_MIN_FREE_BYTES" in answer.json()["detail"]
        assert upload(api, archive).status_code == 507
        wait_until(lambda: files_below(incoming) == [], "the removal of the upload")
        assert files_below(settings.datasets_dir / "archives") == before


class SlowUpload:
    """An upload that has sent its first bytes."""

    def __init__(self, api: httpx2.Client) -> None:
        self._over = threading.Event()
        self.answer: httpx2.Response | None = None
        self._thread = threading.Thread(target=self._send, args=(str(api.base_url),))
        self._thread.start()

    def _send(self, url: str) -> None:
        head = b'--x\r\nContent-Disposition: form-data; name="archive"; filename="a"\r\n\r\nPK\x03\x04'

        def trickle() -> Iterator[bytes]:
            yield head
            while not self._over.wait(0.05):
                yield b"1"
            yield b"\r\n--x--\r\n"

        with httpx2.Client(base_url=url, timeout=TIMEOUT_S, verify=NO_TLS) as client:
            headers = {"Content-Type": "multipart/form-data; boundary=x"}
            self.answer = client.post("/v1/datasets", content=trickle(), headers=headers)

    def end(self) -> int:
        self._over.set()
        self._thread.join()
        assert self.answer is not None
        return self.answer.status_code


def test_slow_uploads_have_a_number_and_block_nothing_else(serve: Serve, settings: Settings, archive: bytes) -> None:
    with serve(settings.model_copy(update={"uploads": 12})) as api, ExitStack() as stack:
        slow = [SlowUpload(api) for _ in range(12)]
        stack.callback(lambda: [upload.end() for upload in slow])
        wait_until(lambda: len(files_below(settings.datasets_dir / "incoming")) == 12, "twelve slow uploads")
        answer = upload(api, archive)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        assert api.get("/livez").status_code == 200
        assert api.get("/v1/datasets").json()["datasets"] == []
        assert api.post("/v1/datasets", json={"name": "x", "folder": "missing"}).status_code == 422
        assert slow.pop().end() == 422  # the name is missing
        assert upload(api, archive).status_code == 202


def test_upload_has_a_deadline(serve: Serve, settings: Settings) -> None:
    with serve(settings.model_copy(update={"upload_timeout_s": 0.4})) as api:
        slow = SlowUpload(api)
        wait_until(lambda: slow.answer is not None, "the end of the upload")
        assert slow.end() == 408
        wait_until(lambda: not files_below(settings.datasets_dir), "the removal of the upload")


def test_storage_that_does_not_answer_gives_503_and_keeps_nothing(
    serve: Serve, settings: Settings, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:9", "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with serve(settings.model_copy(update={"storage_url": "s3://bucket/x", "storage_timeout_s": 0.2})) as api:
        answer = upload(api, archive)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["title"] == "The storage is unavailable"
        assert api.get("/v1/datasets").json()["datasets"] == []
        wait_until(lambda: len(files_below(settings.datasets_dir)) == 1, "the removal of the upload")
        (note,) = files_below(settings.datasets_dir)
        assert note.endswith(".storing"), "the storage may have the archive: it is deleted later"


def test_disk_that_hangs_is_reported_in_time_and_keeps_nothing(settings: Settings) -> None:
    """One thread writes, and it does not answer."""
    pools = ThreadPools(settings.model_copy(update={"file_threads": 1, "file_timeout_s": 0.5}))
    incoming, gate = settings.datasets_dir / "incoming", threading.Event()
    body = b'--x\r\nContent-Disposition: form-data; name="archive"; filename="a"\r\n\r\nPK\x03\x04' + bytes(2 << 20)

    async def receive() -> Message:
        pools[Work.UPLOADS].run_later(gate.wait)
        return {"type": "http.request", "body": body, "more_body": True}

    async def scenario() -> None:
        scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
        uploads = Uploads(settings, incoming, pools)
        form = FormStream("multipart/form-data; boundary=x", "archive", {})
        with pytest.raises(Problem) as raised:
            async with uploads.receive(Request(scope, receive), form, 1 << 30):
                pytest.fail("the upload is not complete")
        assert (raised.value.status_code, raised.value.title) == (503, "The disk of uploads does not answer")
        assert raised.value.headers == {"Retry-After": "5", "Connection": "close"}
        gate.set()
        await uploads.close()
        assert files_below(incoming) == []

    try:
        asyncio.run(scenario())
    finally:
        gate.set()
        pools.close()
