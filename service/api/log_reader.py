"""Logs of attempts, read in blocks of whole lines and cleaned of what only a terminal understands. Torch-free."""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from pipelines.run_folder.log_text import clean
from service.api.event_feed import Channel
from service.rest.schemas import LogLine
from service.store.errors import NotFound
from service.store.records import Job

BLOCK_BYTES = 1 << 18
POLL_S = 0.3
_JOB_IS_FRESH_S = 5.0
"""Nothing but an event changes a job; should one be missed, this is how long that goes unseen."""

_LINE = re.compile(rb"[^\n]*\n|[^\n]+")


@dataclass(frozen=True)
class Block:
    """A part of a log as it lies on the disk; it ends before byte `end`."""

    raw: bytes
    end: int


Form = Callable[[int, Block], bytes]
"""What a block of an attempt becomes on its way to the client."""


def read_block(path: Path, start: int, *, until: int | None = None) -> Block:
    """Return the next whole lines from byte `start` on; a block that ends where it starts: there is nothing (yet).

    Only what is before byte `until` is read, and then an unfinished last line counts as one. A line longer than
    `BLOCK_BYTES` comes in parts; of one that was drawn again and again over itself only the last state comes.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            end = size if until is None else min(size, until)
            if start >= end:
                return Block(b"", start)
            file.seek(start)
            raw = file.read(min(BLOCK_BYTES, end - start))
    except FileNotFoundError:
        return Block(b"", start)
    cut = raw.rfind(b"\n") + 1
    if cut:
        return Block(raw[:cut], start + cut)
    if len(raw) < BLOCK_BYTES:
        return Block(b"", start) if until is None else Block(raw, start + len(raw))
    redrawn = raw.rfind(b"\r", 0, -1) + 1
    if redrawn:
        return Block(b"", start + redrawn)
    cut = len(raw) - _unfinished_bytes(raw)
    return Block(raw[:cut], start + cut)


def _unfinished_bytes(raw: bytes) -> int:
    """Return how many bytes at the end begin a UTF-8 character that goes on behind them."""
    for length in (1, 2, 3):
        lead = raw[-length]
        if lead >= 0xC0:
            return length if length < (2 if lead < 0xE0 else 3 if lead < 0xF0 else 4) else 0
        if lead < 0x80:
            return 0
    return 0


def tail_start(path: Path, num_lines: int) -> tuple[int, int]:
    """Return the byte where the last lines begin, and how many they are: fewer where the log has fewer."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return 0, 0
    with file:
        size = file.seek(0, 2)
        if not num_lines or not size:
            return size, 0
        position, found = size, 0
        while position:
            block = min(BLOCK_BYTES, position)
            position -= block
            file.seek(position)
            raw = file.read(block)
            # The newline at the very end begins no line.
            at = block - 1 if position + block == size else block
            while (at := raw.rfind(b"\n", 0, at)) >= 0:
                found += 1
                if found == num_lines:
                    return position + at + 1, num_lines
        return 0, found + 1


def as_text(_attempt: int, block: Block) -> bytes:
    """Return a block as UTF-8 text."""
    return clean(block.raw).encode()


def as_ndjson(attempt: int, block: Block) -> bytes:
    """Return a block as one JSON object a line, see `LogLine`."""
    lines, offset = [], block.end - len(block.raw)
    for raw in _LINE.findall(block.raw):
        offset += len(raw)
        line = LogLine(attempt=attempt, offset=offset, text=clean(raw).removesuffix("\n"))
        lines.append(line.model_dump_json() + "\n")
    return "".join(lines).encode()


@dataclass(frozen=True)
class LogRange:
    """What is wanted of a job's logs: from a byte of an attempt on, up to attempt `last` or to the job's end (None)."""

    first: int
    start: int
    last: int | None


async def stream_log(
    channel: Channel, path_of: Callable[[int], Path], wanted: LogRange, form: Form
) -> AsyncIterator[bytes]:
    """Yield logs block by block; following ends when the job ends, is deleted, or this process stops."""
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
        until = await feed.in_thread(_size, path_of(attempt)) if is_ended else None
        while not feed.is_stopping:
            block = await feed.in_thread(read_block, path_of(attempt), offset, until=until)
            if block.end == offset:
                break
            offset = block.end
            if chunk := await feed.in_thread(form, attempt, block):
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
    """A job, read again when something has happened to it."""

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
