"""events.jsonl: what a run tells while it goes on, one JSON object a line."""

import json
import time
from pathlib import Path
from typing import Any, Literal

Kind = Literal["progress", "metric", "stage", "warning"]


class EventLog:
    """Appends events to a file; each line is written with one system call, so that readers never see half a line.

    Without a path (ranks other than 0) nothing is written.
    """

    def __init__(self, path: Path | None) -> None:
        self._file = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
            self._end_torn_line(path)

    def _end_torn_line(self, path: Path) -> None:
        """A process that was killed while it wrote may have left half a line: what follows starts a new one."""
        assert self._file is not None
        if path.stat().st_size:
            with path.open("rb") as file:
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    self._file.write(b"\n")

    def write(self, kind: Kind, data: dict[str, Any], *, epoch: int = 0, step: int = 0) -> None:
        """Append {"time", "kind", "epoch", "step", "data"}; time is seconds since 1970."""
        if self._file is None:
            return
        event = {"time": round(time.time(), 3), "kind": kind, "epoch": epoch, "step": step, "data": data}
        self._file.write((json.dumps(event, allow_nan=False) + "\n").encode())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return all whole events of a file; a torn line is left out."""
    events = []
    for line in path.read_bytes().splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            continue
    return events
