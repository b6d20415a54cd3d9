"""Pages about one thing: its facts, one below the other."""

from collections.abc import Mapping

from rich.markup import escape
from rich.table import Table


def facts_table(facts: Mapping[str, str | None]) -> Table:
    """Return a table with a row for each fact that is known and not empty."""
    table = Table.grid(padding=(0, 2))
    for fact, value in facts.items():
        if value:
            table.add_row(fact, escape(value))
    return table
