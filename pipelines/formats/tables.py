"""Read tables with a header row: CSV, also with other separators of cells. Torch-free."""

import csv
import io
from collections.abc import Mapping, Sequence

from pipelines.formats.text_files import decode_text

_SEPARATORS = (",", ";", "\t", "|")
_BLANK = ' "' + "".join(_SEPARATORS)


def read_table(data: bytes, columns: Sequence[str]) -> list[tuple[int, dict[str, str] | str]]:
    """Return the rows of a table, each with the line of the file in which it starts.

    Cells are separated by the first of comma, semicolon, tab and `|` with which the header has all columns. Blanks
    around the names of columns do not count. Lines without text in any cell are skipped. A row is the text of the
    requested columns, or a message if it does not have one cell for each column.

    Args:
        data: the bytes of the file.
        columns: columns that must occur exactly once.

    Raises:
        ValueError: with a message about the file: it is not UTF-8, not a table, or a column is missing or repeated.
    """
    text = decode_text(data)
    first = next((line for line in text.splitlines() if line.strip(_BLANK)), "")
    tables = [_parse(text, separator) for separator in _SEPARATORS if separator in (",", *first)]
    readable = [table for table in tables if not isinstance(table, str)]
    names = {column: column.strip() for column in columns}
    for rows in readable:
        header = _header(rows)
        if not all(name in header for name in names.values()):
            continue
        if repeated := [name for name in names.values() if header.count(name) > 1]:
            raise ValueError(f"has {header.count(repeated[0])} columns {repeated[0]!r}; rename or remove all but one")
        positions = {column: header.index(name) for column, name in names.items()}
        return [(line, _row(cells, positions, len(header))) for line, cells in rows[1:]]
    if isinstance(tables[0], str):
        raise ValueError(tables[0])
    header = _header(readable[0])
    missing = [name for name in names.values() if name not in header]
    noun = "column" if len(missing) == 1 else "columns"
    raise ValueError(f"has no {noun} {' and '.join(map(repr, missing))}; its header is {header}")


def _header(rows: list[tuple[int, list[str]]]) -> list[str]:
    return [cell.strip() for cell in rows[0][1]] if rows else []


def _row(cells: list[str], positions: Mapping[str, int], num_columns: int) -> dict[str, str] | str:
    if len(cells) != num_columns:
        noun = "cell" if len(cells) == 1 else "cells"
        return f"has {len(cells)} {noun}, the header has {num_columns}; write one cell for each column"
    return {column: cells[position] for column, position in positions.items()}


def _parse(text: str, separator: str) -> list[tuple[int, list[str]]] | str:
    """Return rows with their first lines, or a message if the text is not a table with this separator."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[tuple[int, list[str]]] = []
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        return f"is not a valid CSV file (line {line}: {error})"
    return rows
