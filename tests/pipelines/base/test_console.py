"""Tables as text that the standard output can show."""

import io
import sys

import pytest
from rich.table import Table

from pipelines.base.console import kept_text, plain_console


@pytest.mark.parametrize(("encoding", "is_ascii"), [("ascii", True), ("latin-1", True), ("utf-8", False)])
def test_tables_have_ascii_lines_unless_the_output_is_utf8(
    monkeypatch: pytest.MonkeyPatch, encoding: str, is_ascii: bool
) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert _table_text().isascii() == is_ascii


def test_tables_are_kept_when_the_output_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert "cat" in _table_text()


def _table_text() -> str:
    table = Table("class")
    table.add_row("cat")
    console = plain_console(40)
    console.print(table)
    return kept_text(console)
