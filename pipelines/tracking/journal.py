"""What waits to be sent to MLflow, as lines of a file. Torch-free.

The file survives a kill. An entry may be sent twice (after a kill between sending and `mark_sent`): every kind of entry
must mean the same when it arrives twice.
"""

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

READ_BYTES = 1 << 20
MAX_METRICS = 1000
"""So many numbers fit one request to MLflow."""

Entry = dict[str, Any]


class Journal:
    """A first-in-first-out queue of JSON entries in a file; one thread appends, one reads.

    Memory stays bounded: about `READ_BYTES` (or one entry) are read at a time. The file is emptied whenever all was
    sent.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._sent_bytes = 0
        self._file = path.open("ab", buffering=0)
        if self._file.tell():
            # A kill may have torn the last line: ended here, it does not swallow the next entry.
            self._file.write(b"\n")

    def append(self, entry: Entry) -> None:
        """Write one entry to the end."""
        line = json.dumps(entry).encode() + b"\n"
        with self._lock:
            self._file.write(line)

    def read(self) -> list[tuple[Entry, int]]:
        """Return the oldest unsent entries, each with the position to hand to `mark_sent`."""
        entries, position = [], self._sent_bytes
        with self._lock, self.path.open("rb") as file:
            file.seek(position)
            for line in file.readlines(READ_BYTES):
                position += len(line)
                if line == b"\n":
                    continue
                try:
                    entries.append((json.loads(line), position))
                except json.JSONDecodeError:
                    continue
        if not entries:
            self.mark_sent(position)
        return entries

    def mark_sent(self, position: int) -> None:
        """Forget the entries before `position`."""
        with self._lock:
            self._sent_bytes = position
            if position >= self._file.seek(0, 2):
                self._file.truncate(0)
                self._sent_bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether all was sent; False once closed."""
        with self._lock:
            return not self._file.closed and self._file.seek(0, 2) == self._sent_bytes

    def count(self) -> int:
        """Return the number of unsent entries."""
        with self._lock, self.path.open("rb") as file:
            file.seek(self._sent_bytes)
            return sum(1 for line in file if line != b"\n")

    def close(self) -> None:
        """Close the file, and remove it where all was sent."""
        if self.is_empty:
            self.path.unlink(missing_ok=True)
        with self._lock:
            self._file.close()


def grouped(entries: Sequence[tuple[Entry, int]]) -> Iterator[tuple[list[Entry], int]]:
    """Yield entries in order, as many numbers together as one request takes, and the position after each group."""
    group: list[Entry] = []
    num_points = end = 0
    for entry, position in entries:
        points = len(entry.get("metrics", ()))
        if group and (not points or not num_points or num_points + points > MAX_METRICS):
            yield group, end
            group, num_points = [], 0
        group.append(entry)
        num_points += points
        end = position
    if group:
        yield group, end
