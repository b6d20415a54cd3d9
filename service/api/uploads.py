"""Receive archives: they are written and hashed in threads, while no thread waits for a slow client."""

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from starlette.requests import ClientDisconnect

from pipelines.base.errors import DISK_FULL_ERRNOS
from service.api.multipart import FormStream, file_hint, unusable_form
from service.api.thread_pools import NoAnswer, ThreadPools, Work
from service.datasets.archives import HEADER_BYTES, archive_kind
from service.datasets.errors import ArchiveInvalid
from service.datasets.use_cases import ReceivedArchive
from service.disk_space import require_free_space
from service.rest.disconnect import CLIENT_CLOSED_REQUEST
from service.rest.problems import Problem
from service.settings import Settings

BUFFER_BYTES = 1 << 20
FILE_FIELD = "archive"
RETRY_AFTER_S = 10
_FRAME_BYTES = 64 << 10
_CLOSE_S = 5.0
"""Time for the deletion of incomplete archives when the server stops."""


class Uploads:
    """Receives the archives of clients, a limited number at a time.

    Args:
        settings: with the limits.
        folder: for incomplete archives.
        pools: with threads that write files.
    """

    def __init__(self, settings: Settings, folder: Path, pools: ThreadPools) -> None:
        self._settings, self._folder = settings, folder
        self._writing, self._storing = pools[Work.UPLOADS], pools[Work.ARCHIVES]
        self._num_active = 0
        self._releases: set[Future[object]] = set()

    @asynccontextmanager
    async def receive(self, request: Request, form: FormStream, free_bytes: int) -> AsyncIterator[ReceivedArchive]:
        """Read the body of a request, and provide its archive until the block ends.

        Args:
            request: whose body was not read.
            form: of the request; afterwards it has all fields.
            free_bytes: the rest of the client's quota.

        Raises:
            Problem: 408 the upload takes too long; 413 the archive is too large; 422 the form or the archive is
                invalid; 499 the client has left; 503 too many uploads are in progress, or the disk does not answer;
                507 the disk is full.
            DiskAlmostFull: the disk has too little free space for the archive, before or while it arrives.
        """
        if self._num_active >= self._settings.uploads:
            detail = f"{self._num_active} uploads are in progress; try again in a moment"
            raise Problem(503, "Busy", detail, headers={"Retry-After": str(RETRY_AFTER_S), "Connection": "close"})
        self._num_active += 1
        path = self._folder / secrets.token_hex(8)
        try:
            yield await self._receive(request, form, path, min(free_bytes, self._settings.max_upload_bytes))
        finally:
            self._num_active -= 1
            # A cancelled request deletes its file too.
            self._release(partial(path.unlink, missing_ok=True))

    async def close(self) -> None:
        """Wait a moment until the files of all uploads are deleted."""
        if self._releases:
            await asyncio.wait([asyncio.wrap_future(call) for call in tuple(self._releases)], timeout=_CLOSE_S)

    async def _receive(self, request: Request, form: FormStream, path: Path, max_bytes: int) -> ReceivedArchive:
        declared = int(request.headers.get("content-length", "0"))
        if declared > max_bytes + _FRAME_BYTES:
            raise self._too_large(max_bytes)
        limit_s = self._settings.upload_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                file = await self._writing.run(_open, path, declared, self._settings)
                try:
                    return await self._write(request, form, file, path, max_bytes)
                finally:
                    self._release(file.close)
        except TimeoutError:
            detail = (
                f"the upload took more than {limit_s:g} s; PYRAMIDION_UPLOAD_TIMEOUT_S sets the limit of the server"
            )
            raise Problem(408, "The upload took too long", detail, headers={"Connection": "close"}) from None
        except ClientDisconnect:
            raise Problem(CLIENT_CLOSED_REQUEST, "Client disconnected", "the upload was dropped") from None
        except NoAnswer as error:
            error.headers = {**(error.headers or {}), "Connection": "close"}
            raise
        except OSError as error:
            if error.errno in DISK_FULL_ERRNOS:
                raise disk_full() from error
            raise

    async def _write(
        self, request: Request, form: FormStream, file: BinaryIO, path: Path, max_bytes: int
    ) -> ReceivedArchive:
        digest, num_bytes, buffer = hashlib.sha256(), 0, bytearray()

        def write(content: bytes) -> None:
            require_free_space(self._settings, len(content))
            file.write(content)
            digest.update(content)

        async for taken in _files_of(request, form):
            if num_bytes < HEADER_BYTES <= num_bytes + len(taken):
                _require_archive(bytes(buffer + taken), form)
            num_bytes += len(taken)
            if num_bytes > max_bytes:
                raise self._too_large(max_bytes)
            buffer += taken
            if len(buffer) >= BUFFER_BYTES:
                await self._writing.run(write, bytes(buffer))
                buffer.clear()
        if num_bytes < HEADER_BYTES:
            _require_archive(bytes(buffer), form)
        await self._writing.run(write, bytes(buffer))
        await self._storing.run(_sync, file)
        return ReceivedArchive(path, digest.hexdigest(), num_bytes)

    def _too_large(self, max_bytes: int) -> Problem:
        if max_bytes == self._settings.max_upload_bytes:
            remedy = "PYRAMIDION_MAX_UPLOAD_BYTES sets the limit of the server"
        else:
            remedy = (
                "no more is free of the quota: delete data sets, or let the operator raise "
                "PYRAMIDION_DATASET_QUOTA_BYTES or the limit of the key"
            )
        detail = f"the archive may have at most {max_bytes} bytes; {remedy}"
        # The rest of the body stays unread, so the connection cannot carry another request.
        return Problem(413, "Archive too large", detail, headers={"Connection": "close"})

    def _release(self, function: Callable[[], object]) -> None:
        call = self._writing.run_later(function)
        if call is not None:
            self._releases.add(call)
            call.add_done_callback(self._releases.discard)


async def _files_of(request: Request, form: FormStream) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        yield form.feed(chunk)
    yield form.close()


def _require_archive(start: bytes, form: FormStream) -> None:
    try:
        archive_kind(start[:HEADER_BYTES])
    except ArchiveInvalid as error:
        detail = str(error) if form.is_file_named else f"has no file name; {file_hint(FILE_FIELD)}"
        raise unusable_form(f"/{FILE_FIELD}", detail) from None


def _open(path: Path, declared_bytes: int, settings: Settings) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    require_free_space(settings, declared_bytes)
    return path.open("xb")


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def disk_full() -> Problem:
    """Return the problem of a full disk."""
    detail = "the disk of the server has no space for the archive; let the operator free some space"
    return Problem(507, "The disk is full", detail, headers={"Connection": "close"})
