"""Stream logs of attempts, as text or as JSON lines. Torch-free."""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from pipelines.run_folder.log_text import clean
from service.api.event_feed import Channel
from service.api.log_reader import Block, read_block
from service.rest.schemas import LogLine
from service.store.errors import NotFound
from service.store.records import Job

POLL_S = 0.3
_JOB_IS_FRESH_S = 5.0
"""Maximum age of a job that was read; events announce changes, and this bounds the delay if one is missed."""

_LINE = re.compile(rb"[^\n]*\n|[^\n]+")

Form = Callable[[int, Block], bytes]
"""Formats a block of an attempt's log (its number, the block) for the client."""


def as_text(_attempt: int, block: Block) -> bytes:
    """Return a block as UTF-8 text."""
    return clean(block.raw).encode()


def as_ndjson(attempt: int, block: Block) -> bytes:
    """Return a block as one JSON object per line, see `LogLine`."""
    lines, offset = [], block.end - len(block.raw)
    for raw in _LINE.findall(block.raw):
        offset += len(raw)
        line = LogLine(attempt=attempt, offset=offset, text=clean(raw).removesuffix("\n"))
        lines.append(line.model_dump_json() + "\n")
    return "".join(lines).encode()


@dataclass(frozen=True)
class LogRange:
    """A range of a job's logs: from byte `start` of attempt `first` to attempt `last`, or to the job's end if None."""

    first: int
    start: int
    last: int | None


async def stream_log(
    channel: Channel, path_of: Callable[[int], Path], wanted: LogRange, form: Form
) -> AsyncIterator[bytes]:
    """Yield logs block by block; following ends if the job ends or is deleted, or this process stops."""
    attempt, offset = wanted.first, wanted.start
    is_line_open = False
    feed, watch = channel.feed, _JobWatch(channel)
    while True:
        if wanted.last is None:
            try:
                job = await watch.job()
            except NotFound:
                return
            last, is_ended = job.attempt, _has_ended(job, attempt)
        else:
            last, is_ended = wanted.last, True
        until = await feed.read_file(_size, path_of(attempt)) if is_ended else None
        while not feed.is_stopping:
            block = await feed.read_file(read_block, path_of(attempt), offset, until=until)
            if block.end == offset:
                break
            offset = block.end
            if chunk := await feed.read_file(form, attempt, block):
                is_line_open = not block.raw.endswith(b"\n")
                yield chunk
        if is_ended and attempt < last:
            if is_line_open and form is as_text:
                yield b"\n"
            attempt, offset, is_line_open = attempt + 1, 0, False
        elif wanted.last is not None or feed.is_stopping or (is_ended and job.status.is_terminal):
            return
        else:
            await watch.wait(POLL_S)


def _has_ended(job: Job, attempt: int) -> bool:
    return job.attempt > attempt or not job.status.is_active


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class _JobWatch:
    """A job that is read again after each event."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._job: Job | None = None
        self._seen = 0
        self._read_at = 0.0

    async def job(self) -> Job:
        is_stale = self._channel.newest > self._seen or monotonic() > self._read_at + _JOB_IS_FRESH_S
        if self._job is None or is_stale:
            self._seen, self._read_at = self._channel.newest, monotonic()
            self._job = await self._channel.job_shared()
        return self._job

    async def wait(self, timeout_s: float) -> None:
        await self._channel.wait(self._seen, timeout_s)
