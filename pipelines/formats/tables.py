"""Read tables with a header row: CSV, also with other separators of cells. Torch-free."""

import csv
import io
from collections.abc import Sequence

_SEPARATORS = (",", ";", "\t", "|")


def read_table(data: bytes, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a table, each with the line of the file in which it starts.

    Cells are separated by the first of comma, semicolon, tab and `|` with which the header has all columns. Empty lines
    are skipped. A row that does not have one cell for each column is empty.

    Args:
        data: the bytes of the file.
        columns: columns that must occur exactly once.

    Raises:
        ValueError: with a message about the file: it is not UTF-8, not a table, or a column is missing or repeated.
    """
    text = _decode(data)
    tables = [_parse(text, separator) for separator in _SEPARATORS if separator in (",", *text.partition("\n")[0])]
    readable = [table for table in tables if not isinstance(table, str)]
    for rows in readable:
        header = rows[0][1] if rows else []
        if not all(column in header for column in columns):
            continue
        if repeated := [column for column in columns if header.count(column) > 1]:
            raise ValueError(f"has {header.count(repeated[0])} columns {repeated[0]!r}; rename or remove all but one")
        return [
            (line, dict(zip(header, cells, strict=True)) if len(cells) == len(header) else {})
            for line, cells in rows[1:]
        ]
    if isinstance(tables[0], str):
        raise ValueError(tables[0])
    header = readable[0][0][1] if readable[0] else []
    missing = [column for column in columns if column not in header]
    noun = "column" if len(missing) == 1 else "columns"
    raise ValueError(f"has no {noun} {' and '.join(map(repr, missing))}; its header is {header}")


def _decode(data: bytes) -> str:
    if b"\0" in data:
        raise ValueError("is not UTF-8 text (it has zero bytes, as UTF-16 has); save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"is not UTF-8 text (byte 0x{data[error.start]:02x} in line {line}; it may be Latin-1 or Windows-1252); "
            "save it as UTF-8"
        ) from None


def _parse(text: str, separator: str) -> list[tuple[int, list[str]]] | str:
    """Return rows with their first lines, or a message if the text is not a table with this separator."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[tuple[int, list[str]]] = []
    line = 1
    try:
        for cells in reader:
            if cells:
                rows.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        return f"is not a valid CSV file (line {line}: {error})"
    return rows
