"""A queue, in a file, of entries that are to be sent to MLflow. Torch-free.

The file survives a kill. An entry is sent twice if the process is killed between sending and `mark_sent`; receiving any
kind of entry twice must have the same effect as receiving it once.
"""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipelines.run_folder.tracking_files import BatchEntry, JournalEntry, parse_entry

READ_BYTES = 1 << 20
MAX_METRICS = 1000
"""Maximum number of metrics in one request to MLflow."""


class Journal:
    """A first-in-first-out queue of entries in a file; one thread appends, another one reads.

    Memory stays bounded: about `READ_BYTES` (or one entry) are read at a time. The file is emptied when all entries
    were sent.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._sent_bytes = 0
        self._file = path.open("ab", buffering=0)
        if self._file.tell():
            # A kill may have torn the last line; ending it keeps the next entry readable.
            self._file.write(b"\n")

    def append(self, entry: JournalEntry) -> None:
        """Append one entry to the file."""
        line = entry.to_json().encode() + b"\n"
        with self._lock:
            self._file.write(line)

    def read(self) -> list[tuple[JournalEntry, int]]:
        """Return the oldest unsent entries, each with its end position for `mark_sent`; invalid lines are skipped."""
        entries, position = [], self._sent_bytes
        with self._lock, self.path.open("rb") as file:
            file.seek(position)
            for line in file.readlines(READ_BYTES):
                position += len(line)
                if (entry := parse_entry(line)) is not None:
                    entries.append((entry, position))
        if not entries:
            self.mark_sent(position)
        return entries

    def mark_sent(self, position: int) -> None:
        """Record that the entries before `position` were sent."""
        with self._lock:
            self._sent_bytes = position
            if position >= self._file.seek(0, 2):
                self._file.truncate(0)
                self._sent_bytes = 0

    @property
    def is_empty(self) -> bool:
        """True if all entries were sent; False after `close`."""
        with self._lock:
            return not self._file.closed and self._file.seek(0, 2) == self._sent_bytes

    def count(self) -> int:
        """Return the number of unsent entries."""
        with self._lock, self.path.open("rb") as file:
            file.seek(self._sent_bytes)
            return sum(1 for line in file if line != b"\n")

    def close(self) -> None:
        """Close the file, and remove it if all entries were sent."""
        if self.is_empty:
            self.path.unlink(missing_ok=True)
        with self._lock:
            self._file.close()


def grouped(entries: Sequence[tuple[JournalEntry, int]]) -> Iterator[tuple[list[JournalEntry], int]]:
    """Yield groups of entries, in order, each with its end position; metrics are combined up to one request's limit."""
    group: list[JournalEntry] = []
    num_points = end = 0
    for entry, position in entries:
        points = len(entry.metrics) if isinstance(entry, BatchEntry) else 0
        if group and (not points or not num_points or num_points + points > MAX_METRICS):
            yield group, end
            group, num_points = [], 0
        group.append(entry)
        num_points += points
        end = position
    if group:
        yield group, end
