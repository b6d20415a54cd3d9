"""Finished runs of a benchmark as committed rows, one line of JSON each.

A row has the fields that identify its run, and what was measured. A benchmark skips a run that has a row, on every
machine, and prints its tables from the rows alone.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file in the order in which the runs finished; none if the file is missing."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def append_row(path: Path, row: Row) -> None:
    """Append one row in a single write, so that several threads can finish runs."""
    with path.open("a", encoding="utf-8") as rows:
        rows.write(json.dumps(row) + "\n")


def find_row(rows: list[Row], identity: Mapping[str, Any]) -> Row | None:
    """Return the row whose fields include those of `identity`, or None."""
    return next((row for row in rows if identity.items() <= row.items()), None)


def discard_rows(path: Path, is_discarded: Callable[[Row], bool]) -> None:
    """Remove rows, so that their runs are executed again."""
    kept = [row for row in read_rows(path) if not is_discarded(row)]
    path.write_text("".join(json.dumps(row) + "\n" for row in kept), "utf-8")
