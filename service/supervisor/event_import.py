"""events.jsonl, which the trainer appends to, read on by byte offset."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class EventLines:
    """What whole lines of a file hold, and the offset behind them."""

    lines: list[Any]
    offset: int


def read_event_lines(path: Path, offset: int) -> EventLines:
    """Return the whole lines from `offset` on, about `CHUNK_BYTES` of them.

    A line that is no JSON (a killed trainer leaves half a line) is passed over; one that is not ended yet waits. As
    long as there is no file there are no lines. Raises OSError where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            # Shorter than what was read: the run folder was removed, and this is the file of another attempt.
            offset = file.seek(offset if file.seek(0, 2) >= offset else 0)
            # A single line may be longer than a part.
            content = file.read(CHUNK_BYTES) + file.readline()
    except FileNotFoundError:
        return EventLines([], offset)
    whole = content[: content.rfind(b"\n") + 1]
    return EventLines([value for line in whole.splitlines() for value in _parsed(line)], offset + len(whole))


def _parsed(line: bytes) -> list[Any]:
    try:
        return [json.loads(line)]
    except ValueError:
        return []
