"""Reads events.jsonl, to which the trainer appends, from a byte offset on."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class EventLines:
    """The content of complete lines of a file, and the offset after them."""

    lines: list[Any]
    offset: int


def read_event_lines(path: Path, offset: int) -> EventLines:
    """Return the complete lines after `offset`, up to about `CHUNK_BYTES`; a missing file has no lines.

    A line that is not JSON is skipped, since a killed trainer leaves half a line; so is one with NaN or Infinity, which
    PostgreSQL refuses. An unfinished line is read once it is complete. Raises OSError if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            # A file shorter than the offset belongs to a later attempt: the run folder was removed in the meantime.
            offset = file.seek(offset if file.seek(0, 2) >= offset else 0)
            # A single line may be longer than a chunk.
            content = file.read(CHUNK_BYTES) + file.readline()
    except FileNotFoundError:
        return EventLines([], offset)
    complete = content[: content.rfind(b"\n") + 1]
    return EventLines([value for line in complete.splitlines() for value in _parsed(line)], offset + len(complete))


def _parsed(line: bytes) -> list[Any]:
    try:
        return [json.loads(line, parse_constant=_refuse)]
    except (ValueError, RecursionError):
        return []


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
