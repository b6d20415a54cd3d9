"""Comparisons of runs as tables on the console. Torch-free."""

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from pipelines.base.quantities import quantity
from pipelines.evaluation.tables import MAX_CLASS_ROWS
from pipelines.spec.comparison import ComparedNumber, ComparedTask, RunComparison


def comparison_tables(compared: RunComparison) -> list[Table]:
    """Return, for each task and each run after the first, a table of the metrics and one of the classes."""
    tables = []
    for name, task in compared.tasks.items():
        for position, run in enumerate(compared.runs[1:], start=1):
            images = quantity(task.num_images, "image")
            title = f"{name} on {compared.split}, {images}: {compared.runs[0]} (first) and {run} (second)"
            tables.append(_table(title, "metric", ((row.name, row) for row in task.metrics), position, compared))
            tables += _class_tables(name, task, position, compared)
    return tables


def _class_tables(name: str, task: ComparedTask, position: int, compared: RunComparison) -> list[Table]:
    if not task.per_class:
        return []
    rows = [
        (f"{of_class.label}: {row.name}" if len(of_class.numbers) > 1 else of_class.label, row)
        for of_class in task.per_class[:MAX_CLASS_ROWS]
        for row in of_class.numbers
    ]
    return [_table(f"{name}, by class", "class", rows, position, compared)]


def _table(
    title: str, heading: str, rows: Iterable[tuple[str, ComparedNumber]], position: int, compared: RunComparison
) -> Table:
    interval = f"{compared.confidence:.0%} interval"
    table = Table(title=escape(title), box=SIMPLE_HEAD, title_justify="left")
    table.add_column(heading, no_wrap=True)
    for column in ("first", "second", "difference", interval, "real"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in rows:
        table.add_row(escape(name), *_cells(row, position))
    return table


def _cells(row: ComparedNumber, position: int) -> Sequence[str]:
    found = row.differences[position - 1]
    values = ["-" if value is None else f"{value:.3f}" for value in (row.values[0], row.values[position])]
    difference = "-" if found.difference is None else f"{found.difference:+.3f}"
    if found.low is None or found.high is None:
        return [*values, difference, "-", "-"]
    return [*values, difference, f"{found.low:+.3f} to {found.high:+.3f}", "yes" if found.excludes_zero else "no"]
