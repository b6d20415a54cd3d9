"""Results as tables on the console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.base.printable import shorten_values, shortened
from pipelines.base.quantities import quantity
from pipelines.evaluation.conditions import condition_tables
from pipelines.tasks.kinds import KINDS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from pipelines.spec.model import ModelSpec

MAX_CLASS_ROWS = 100
"""Number of classes that a table shows; result.json has all."""

COLUMNS = 80
"""Width that the tables need at most."""

_DIGITS = len("0.000")


def result_tables(split: str, tasks: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """Return tables of the numbers and the classes of each task; undefined numbers are '-'.

    Numbers are fractions, as on all other screens and in result.json.
    """
    tables = []
    for name, result in tasks.items():
        title = f"{name} on {split}: {quantity(result['num_images'], 'image')}"
        kind = KINDS[result["kind"]]
        numbers, caption = kind.numbers(result), kind.table_caption(result)
        for metrics in _lines(kind.metrics):
            tables.append(_table(title, metrics, [[_fraction(numbers.get(metric)) for metric in metrics]], caption))
            title = caption = ""
        tables += _class_table(name, result)
    return tables


def print_results(split: str, tasks: Mapping[str, Mapping[str, Any]], console: Console | None = None) -> None:
    """Print the tables of all tasks, by default to the standard output."""
    _print(result_tables(split, tasks), console)


def print_conditions(model: ModelSpec, result: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the tables of corruptions and slices of a result.json, by default to the standard output."""
    _print(
        [
            _table(title, columns, [[_cell(cell) for cell in row] for row in rows], caption, names=columns[:1])
            for title, columns, rows, caption in condition_tables(model, result)
        ],
        console,
    )


def _print(tables: Sequence[Table], console: Console | None) -> None:
    from pipelines.base.console import SafeConsole

    console = console or SafeConsole()
    # A narrower terminal wraps the lines itself, so that no number is cut.
    console.width = max(console.width, COLUMNS)
    for table in tables:
        console.print(table)


def _lines(metrics: Sequence[str]) -> list[list[str]]:
    """Return the metrics as lines of about equal length that fit `COLUMNS`: COCO's twelve as precision and recall."""
    lines: list[list[str]] = []
    for num_lines in range(1, len(metrics) + 1):
        length = -(-len(metrics) // num_lines)
        lines = [list(metrics[start : start + length]) for start in range(0, len(metrics), length)]
        if all(sum(max(_DIGITS, len(name)) + 2 for name in line) <= COLUMNS - 2 for line in lines):
            break
    return lines


def _class_table(name: str, result: Mapping[str, Any]) -> list[Table]:
    columns = KINDS[result["kind"]].class_columns
    rows = result["per_class"]
    if not rows:
        return []
    hidden = len(rows) - MAX_CLASS_ROWS
    caption = f"and {hidden} more in result.json" if hidden > 0 else ""
    # Results of earlier versions lack the columns that were added since.
    cells = [[_cell(row.get(column)) for column in columns] for row in rows[:MAX_CLASS_ROWS]]
    return [_table(f"{name}, by {columns[0]}", columns, cells, caption, names=columns[:1])]


def _table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str = "",
    names: Sequence[str] = (),
) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=escape(shorten_values(title)) or None,
        caption=escape(shorten_values(caption)) or None,
        box=SIMPLE_HEAD,
        collapse_padding=True,
    )
    table.title_justify = table.caption_justify = "left"
    for column in columns:
        table.add_column(escape(shortened(column)), justify="left" if column in names else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


def _cell(value: str | int | float | None) -> str:
    return str(value) if isinstance(value, str | int) else _fraction(value)


def _fraction(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
