"""Reading of an uploaded image under limits of time and memory."""

import asyncio
from typing import Any

import pytest
from fastapi import Request

from service.api.image_upload import UploadMemory, read_image_fields
from service.rest.problems import Problem
from service.settings import Settings

BODY = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n12345\r\n--b--\r\n'


def request(*chunks: bytes, is_complete: bool) -> Request:
    """Return a request whose client sends some chunks, and then, if the body is not complete, nothing."""
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages[-1]["more_body"] = not is_complete

    async def receive() -> Any:
        return messages.pop(0) if messages else await asyncio.Event().wait()

    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def read(request: Request, memory: UploadMemory, **limits: Any) -> list[bytes]:
    return asyncio.run(read_image_fields(request, Settings(**limits), memory))


def test_upload_that_does_not_end_in_time_is_abandoned() -> None:
    memory = UploadMemory(len(BODY))
    with pytest.raises(Problem) as raised:
        read(request(BODY[:40], is_complete=False), memory, image_upload_timeout_s=0.05)
    assert (raised.value.status_code, raised.value.headers) == (408, {"Connection": "close"})
    assert "40 bytes arrived within 0.05 s" in raised.value.detail
    assert read(request(BODY[:20], BODY[20:], is_complete=True), memory) == [b"12345"], "its memory is free again"


def test_uploads_share_their_memory() -> None:
    memory = UploadMemory(len(BODY) + 10)
    with memory.share() as other:
        other.add(11)
        with pytest.raises(Problem) as raised:
            read(request(BODY, is_complete=True), memory)
        assert (raised.value.status_code, raised.value.title) == (503, "Too many uploads")
        assert raised.value.headers == {"Retry-After": "1", "Connection": "close"}
    assert read(request(BODY, is_complete=True), memory) == [b"12345"]


def form(*images: bytes) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    return b"".join([*(head + image + b"\r\n" for image in images), b"--b--\r\n"])


def test_several_images_keep_their_order() -> None:
    assert read(request(form(b"1", b"", b"22"), is_complete=True), UploadMemory(1000)) == [b"1", b"", b"22"]


@pytest.mark.parametrize(
    ("limits", "status", "variable"),
    [
        ({"max_images": 2}, 422, "PYRAMIDION_MAX_IMAGES"),
        ({"max_image_bytes": 4}, 413, "PYRAMIDION_MAX_IMAGE_BYTES"),
        ({"max_image_bytes": 5, "max_images_bytes": 12}, 413, "PYRAMIDION_MAX_IMAGES_BYTES"),
    ],
)
def test_images_have_limits_each_and_together(limits: dict[str, int], status: int, variable: str) -> None:
    with pytest.raises(Problem) as raised:
        read(request(form(b"1234", b"12345", b"12345"), is_complete=True), UploadMemory(1000), **limits)
    assert raised.value.status_code == status
    assert f"{variable} sets the limit" in raised.value.detail


def test_text_instead_of_a_file_is_refused_with_the_remedy() -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\none.png\r\n--b--\r\n'
    with pytest.raises(Problem) as raised:
        read(request(body, is_complete=True), UploadMemory(1000))
    expected = "image: got the text 'one.png'; send the content of the file (with curl: -F image=@FILE)"
    assert (raised.value.status_code, raised.value.detail) == (422, expected)
