"""Files and archives as responses, whole or the part that the header `Range` asks for (RFC 9110, section 14).
Torch-free."""

import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, closing
from io import FileIO
from pathlib import Path
from typing import Protocol

from fastapi import Request
from starlette.responses import Response, StreamingResponse

from service.api.entity_tags import is_known
from service.api.thread_pools import ThreadPool, Work
from service.rest.problems import Problem

CHUNK_BYTES = 1 << 18
_RANGE = re.compile(r"\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.ASCII)


def open_file(path: Path) -> FileIO:
    """Return an open file; raises Problem 404 if it was deleted meanwhile."""
    try:
        return path.open("rb", buffering=0)
    except FileNotFoundError:
        raise Problem(404, "File not found", "the file was deleted a moment ago; list the files again") from None


class Content(Protocol):
    """Bytes that do not change while they are open."""

    @property
    def num_bytes(self) -> int: ...

    def read_at(self, num_bytes: int, offset: int) -> bytes:
        """Return at most `num_bytes` bytes from a position; none where the content has become shorter."""

    def close(self) -> None: ...


class _OpenFile:
    def __init__(self, file: FileIO) -> None:
        self._file, self.num_bytes = file, os.fstat(file.fileno()).st_size

    def read_at(self, num_bytes: int, offset: int) -> bytes:
        return os.pread(self._file.fileno(), num_bytes, offset)

    def close(self) -> None:
        self._file.close()


def file_response(request: Request, file: FileIO, headers: Mapping[str, str], media_type: str) -> Response:
    """Return an open file, see `content_response`."""
    return content_response(request, _OpenFile(file), headers, media_type)


def content_response(request: Request, content: Content, headers: Mapping[str, str], media_type: str) -> Response:
    """Return the content, a part of it with status 206, or 304 if the client has it; it is closed at the end.

    Several ranges in one request are answered with the whole content, which is allowed.

    Args:
        headers: of the response, with the `ETag` that `If-None-Match` and `If-Range` are compared with.

    Raises:
        Problem: 400 if the range is malformed, 416 if it is outside the content.
    """
    with ExitStack() as stack:
        stack.callback(content.close)
        if is_known(request, headers["ETag"]):
            return Response(status_code=304, headers=dict(headers))
        size, span = content.num_bytes, None
        if request.headers.get("if-range", headers["ETag"]) == headers["ETag"]:
            span = _span(request.headers.get("range", ""), size)
        start, end = (0, size) if span is None else span
        sent = {**headers, "Accept-Ranges": "bytes", "Content-Length": str(end - start)}
        if span is not None:
            sent["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        chunks = _read(content, start, end, request.app.state.pools[Work.STREAMS])
        stack.pop_all()
        return StreamingResponse(chunks, 200 if span is None else 206, sent, media_type)


def _span(text: str, size: int) -> tuple[int, int] | None:
    """Return the first byte and the one after the last byte of a range; None for the whole file."""
    unit, has_range, ranges = text.partition("=")
    if not has_range or unit.strip().lower() != "bytes" or "," in ranges:
        if text and not has_range:
            raise _malformed(text)
        return None
    match = _RANGE.fullmatch(ranges)
    if match is None or not any(match.groups()):
        raise _malformed(text)
    first, last = match.groups()
    if first and last and int(first) > int(last):
        raise _malformed(text)
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= end:
        detail = f"Range: got {text[:80]!r}, but the file has {size} bytes"
        raise Problem(416, "Range not satisfiable", detail, headers={"Content-Range": f"bytes */{size}"})
    return start, end


def _malformed(text: str) -> Problem:
    return Problem(400, "Malformed range", f"Range: got {text[:80]!r}; send a range such as bytes=0-499 or bytes=-500")


async def _read(content: Content, start: int, end: int, threads: ThreadPool) -> AsyncIterator[bytes]:
    """Yield a part of the content, and close it; if it becomes shorter meanwhile, the response breaks off."""
    with closing(content):
        while start < end:
            chunk = await threads.run(content.read_at, min(CHUNK_BYTES, end - start), start)
            if not chunk:
                return
            start += len(chunk)
            yield chunk
