"""Read the fields `image` of a multipart body, enforcing limits of size and time while reading. Torch-free."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import Request

from service.api.multipart import MultipartStream, file_hint, unknown_field, unusable_form
from service.rest.problems import Problem
from service.settings import Settings

FIELD = "image"
_MAX_FRAME_BYTES = 16 << 10
"""Maximum size of boundaries and headers around the image."""
_MAX_TEXT_BYTES = 200
"""A part without a file name and at most this size may be a text, such as the name of a file."""

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
    form = _ImageForm(request.headers.get("content-type", ""), settings)
    limit = form.max_total + settings.max_images * _MAX_FRAME_BYTES
    if int(request.headers.get("content-length", "0")) > limit:
        raise _too_many_bytes(form.max_total)
    num_bytes = 0
    try:
        with memory.share() as share:
            async with asyncio.timeout(settings.image_upload_timeout_s):
                async for chunk in request.stream():
                    num_bytes += len(chunk)
                    if num_bytes > limit:
                        raise _too_many_bytes(form.max_total)
                    share.add(len(chunk))
                    form.write(chunk)
    except TimeoutError:
        raise _too_slow(settings.image_upload_timeout_s, num_bytes) from None
    form.require_image()
    return [bytes(image) for image in form.images]


class _ImageForm(MultipartStream):
    """Collects the bytes of all fields of one name, and rejects others."""

    def __init__(self, content_type: str, settings: Settings) -> None:
        super().__init__(content_type, FIELD)
        self.images: list[bytearray] = []
        self.max_total = max(settings.max_image_bytes, settings.max_images_bytes)
        self._max_bytes, self._max_images = settings.max_image_bytes, settings.max_images
        self._num_bytes = 0

    def require_image(self) -> None:
        """Check the form after the whole body was fed; raises Problem 422 if it is incomplete."""
        self.require_end()
        if not self.images:
            raise unusable_form(f"/{FIELD}", "missing; add the image file as the form's field 'image'")

    def _begin_part(self, name: str) -> None:
        if name != FIELD:
            raise unknown_field(name, [FIELD])
        if len(self.images) == self._max_images:
            detail = f"the form has more than {self._max_images} images; send the others in another request"
            raise unusable_form(f"/{FIELD}", f"{detail} (PYRAMIDION_MAX_IMAGES sets the limit of the server)")
        self.images.append(bytearray())

    def _take(self, content: bytes) -> None:
        image = self.images[-1]
        image += content
        self._num_bytes += len(content)
        if len(image) > self._max_bytes:
            raise _too_large(self._max_bytes)
        if self._num_bytes > self.max_total:
            raise _too_many_bytes(self.max_total)

    def _end_part(self) -> None:
        """Refuse a short text, such as the name of a file; other bytes are checked when they are decoded."""
        image = self.images[-1]
        if self.file_name is not None or not 0 < len(image) <= _MAX_TEXT_BYTES:
            return
        if (text := image.decode(errors="replace")).isprintable():
            raise unusable_form(f"/{FIELD}", f"got the text {text!r}; {file_hint(FIELD)}")


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
