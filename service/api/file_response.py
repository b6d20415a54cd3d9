"""A file as a response, whole or the part that the header `Range` asks for (RFC 9110, section 14). Torch-free."""

import os
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse

from service.api.thread_pools import ThreadPool
from service.rest.problems import Problem

CHUNK_BYTES = 1 << 18
_RANGE = re.compile(r"\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.ASCII)


def file_response(
    requested: Headers, path: Path, headers: Mapping[str, str], media_type: str, threads: ThreadPool
) -> Response:
    """Return the file, or a part of it with status 206.

    Several ranges in one request are answered with the whole file, which is allowed.

    Args:
        requested: headers of the request.
        headers: of the response, with the `ETag` that `If-Range` is compared with.
        threads: read the file while it is sent.

    Raises:
        Problem: 400 if the range is malformed, 416 if it is outside the file.
    """
    size = path.stat().st_size
    span = None
    if requested.get("if-range", headers["ETag"]) == headers["ETag"]:
        span = _span(requested.get("range", ""), size)
    start, end = (0, size) if span is None else span
    sent = {**headers, "Accept-Ranges": "bytes", "Content-Length": str(end - start)}
    if span is not None:
        sent["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return StreamingResponse(_read(path, start, end, threads), 200 if span is None else 206, sent, media_type)


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


async def _read(path: Path, start: int, end: int, threads: ThreadPool) -> AsyncIterator[bytes]:
    """Yield the bytes of a file; if it becomes shorter meanwhile, the response breaks off."""
    descriptor = await threads.run(os.open, path, os.O_RDONLY)
    try:
        while start < end:
            chunk = await threads.run(os.pread, descriptor, min(CHUNK_BYTES, end - start), start)
            if not chunk:
                return
            start += len(chunk)
            yield chunk
    finally:
        os.close(descriptor)
