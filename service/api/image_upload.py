"""Read the fields `image` of a multipart body, enforcing limits of size and time while reading. Torch-free."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from service.rest.problems import Problem
from service.rest.schemas import ProblemField
from service.settings import Settings

FIELD = "image"
_MAX_FRAME_BYTES = 16 << 10
"""Maximum size of boundaries and headers around the image."""

IMAGE_HELP = "an image file; repeat the field for several images, which are answered in this order"
REQUEST_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [FIELD],
                "properties": {FIELD: {"type": "string", "format": "binary", "description": IMAGE_HELP}},
            }
        }
    },
}
"""Description of the body in the OpenAPI document."""


class UploadMemory:
    """The memory of all images that are being read; slow uploads occupy only what they have sent."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0

    @contextmanager
    def share(self) -> Iterator["UploadShare"]:
        """Yield the share of one upload, which is free again afterwards."""
        share = UploadShare(self)
        try:
            yield share
        finally:
            self._num_bytes -= share.num_bytes

    def add(self, num_bytes: int) -> None:
        """Take more memory; raises Problem 503 if it is full."""
        if self._num_bytes + num_bytes > self._max_bytes:
            detail = (
                f"the images that are being uploaded have {self._max_bytes} bytes together, which is the limit "
                "(PYRAMIDION_IMAGE_UPLOAD_MEMORY_BYTES); send the request again later"
            )
            raise Problem(503, "Too many uploads", detail, headers={"Retry-After": "1", "Connection": "close"})
        self._num_bytes += num_bytes


class UploadShare:
    """The memory of one upload."""

    def __init__(self, memory: UploadMemory) -> None:
        self._memory = memory
        self.num_bytes = 0

    def add(self, num_bytes: int) -> None:
        """Take more memory; raises Problem 503 if it is full."""
        self._memory.add(num_bytes)
        self.num_bytes += num_bytes


async def read_image_fields(request: Request, settings: Settings, memory: UploadMemory) -> list[bytes]:
    """Return the image files of a request, in their order.

    Raises:
        Problem: 415 the body is not multipart; 413 an image has more than `max_image_bytes`, or all images together
            more than `max_images_bytes`; 422 the field is missing, or there are more than `max_images`;
            408 the body has not arrived within `image_upload_timeout_s`; 503 too many uploads are in progress.
    """
    max_bytes = max(settings.max_image_bytes, settings.max_images_bytes)
    boundary = _boundary(request.headers.get("content-type", ""))
    limit = max_bytes + settings.max_images * _MAX_FRAME_BYTES
    if int(request.headers.get("content-length", "0")) > limit:
        raise _too_many_bytes(max_bytes)
    num_bytes = 0
    try:
        form = _Form(boundary, settings)
        with memory.share() as share:
            async with asyncio.timeout(settings.image_upload_timeout_s):
                async for chunk in request.stream():
                    num_bytes += len(chunk)
                    if num_bytes > limit:
                        raise _too_many_bytes(max_bytes)
                    share.add(len(chunk))
                    form.feed(chunk)
    except FormParserError as error:
        raise _unusable("", f"the body is not valid multipart/form-data: {error}") from None
    except TimeoutError:
        raise _too_slow(settings.image_upload_timeout_s, num_bytes) from None
    return form.images()


class _Form:
    """Collects the bytes of all fields of one name, and rejects others."""

    def __init__(self, boundary: bytes, settings: Settings) -> None:
        self._max_bytes, self._max_images = settings.max_image_bytes, settings.max_images
        self._max_total = max(settings.max_image_bytes, settings.max_images_bytes)
        self._num_bytes = 0
        self._contents: list[bytearray] = []
        self._is_over = False
        self._header_name = self._header_value = b""
        self._disposition = ""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_part_data": self._take,
                "on_header_field": self._take_header_name,
                "on_header_value": self._take_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        self._parser.write(chunk)

    def images(self) -> list[bytes]:
        """Return the contents of the fields, after the whole body has been fed."""
        if not self._is_over:
            raise _unusable("", "the body ends before its last boundary; send it completely")
        if not self._contents:
            raise _unusable(f"/{FIELD}", "missing; add the image file as the form's field 'image'")
        return [bytes(content) for content in self._contents]

    def _begin_part(self) -> None:
        self._disposition = ""

    def _take_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _take_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value.decode("utf-8", "replace")
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        name = _parameter("content-disposition", self._disposition, "name")
        if name != FIELD:
            shown = (name or "")[:40].replace("~", "~0").replace("/", "~1")
            raise _unusable(f"/{shown}", f"unknown field; the form has one field, {FIELD!r}")
        if len(self._contents) == self._max_images:
            detail = f"the form has more than {self._max_images} images; send the others in another request"
            raise _unusable(f"/{FIELD}", f"{detail} (PYRAMIDION_MAX_IMAGES sets the limit of the server)")
        self._contents.append(bytearray())

    def _take(self, data: bytes, start: int, end: int) -> None:
        content = self._contents[-1]
        content += data[start:end]
        self._num_bytes += end - start
        if len(content) > self._max_bytes:
            raise _too_large(self._max_bytes)
        if self._num_bytes > self._max_total:
            raise _too_many_bytes(self._max_total)

    def _end(self) -> None:
        self._is_over = True


def _boundary(content_type: str) -> bytes:
    declared = Message()
    declared["content-type"] = content_type
    boundary = _parameter("content-type", content_type, "boundary")
    if declared.get_content_type() != "multipart/form-data" or not boundary:
        detail = (
            f"got the content type {content_type[:80]!r}; send multipart/form-data with the image as field {FIELD!r}"
        )
        raise Problem(415, "Not a form", detail)
    try:
        return boundary.encode("latin-1")
    except UnicodeEncodeError:
        raise _unusable("", "the boundary of the body is not ASCII") from None


def _parameter(header: str, text: str, parameter: str) -> str | None:
    """Return a parameter of a header, such as `name` of `form-data; name="image"`."""
    message = Message()
    message[header] = text.replace("\r", " ").replace("\n", " ")
    found = message.get_param(parameter, header=header)
    return found if isinstance(found, str) else None


def _too_large(max_bytes: int) -> Problem:
    return Problem(
        413,
        "Image too large",
        f"an image file may have at most {max_bytes} bytes; PYRAMIDION_MAX_IMAGE_BYTES sets the limit of the server",
        # The rest of the body stays unread, so the connection cannot carry another request.
        headers={"Connection": "close"},
    )


def _too_many_bytes(max_bytes: int) -> Problem:
    return Problem(
        413,
        "Images too large",
        f"the image files of a request may have at most {max_bytes} bytes together; PYRAMIDION_MAX_IMAGES_BYTES sets "
        "the limit of the server",
        headers={"Connection": "close"},
    )


def _too_slow(timeout_s: float, num_bytes: int) -> Problem:
    return Problem(
        408,
        "Upload too slow",
        f"{num_bytes} bytes arrived within {timeout_s:g} s, but not the whole body; PYRAMIDION_IMAGE_UPLOAD_TIMEOUT_S "
        "sets the limit of the server",
        headers={"Connection": "close"},
    )


def _unusable(pointer: str, detail: str) -> Problem:
    return Problem(
        422,
        "The form is invalid",
        detail,
        [ProblemField(pointer=pointer, detail=detail)],
        headers={"Connection": "close"},
    )
