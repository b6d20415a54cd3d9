"""The table of all settings in `docs/operations.md`; `python -m tests.settings_table` writes it."""

from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from service.settings import PREFIX, Settings

PAGE = Path(__file__).resolve().parent.parent / "docs/operations.md"
HEADING = "## All settings\n"
INTRODUCTION = f"""
Each is a variable `{PREFIX}<NAME>`, and an option of `pyramidion serve` in lower case with hyphens:
`{PREFIX}MAX_JSON_BYTES` is `--max-json-bytes`. Options take precedence.
`python -m tests.settings_table` writes this table.

| name | default | meaning |
|---|---|---|
"""
UNITS = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10}


def section() -> str:
    """Return the section as it should be."""
    rows = [
        f"| `{name.upper()}` | {default_of(name, field)} | {field.description} |\n"
        for name, field in Settings.model_fields.items()
    ]
    return HEADING + INTRODUCTION + "".join(rows)


def default_of(name: str, field: FieldInfo) -> str:
    """Return a default as text; one that depends on the machine is described by the setting's meaning."""
    if field.default_factory is not None or field.default is None or field.default is PydanticUndefined:
        return ""
    value: Any = field.default
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and "bytes" in name:
        unit, size = next(((unit, size) for unit, size in UNITS.items() if value % size == 0), ("", 1))
        return f"{value // size} {unit}".strip()
    return f"{value:g}" if isinstance(value, float) and value < 1e6 else str(value)


def page_with_section(page: str) -> str:
    """Return the page with the section as it should be."""
    before, heading, rest = page.partition(HEADING)
    assert heading, f"the page has no heading {HEADING!r}"
    _, separator, rows = rest.partition("|---|---|---|\n")
    assert separator, "the section has no table"
    after = rows.splitlines(keepends=True)
    while after and after[0].startswith("|"):
        del after[0]
    return before + section() + "".join(after)


if __name__ == "__main__":
    PAGE.write_text(page_with_section(PAGE.read_text("utf-8")), "utf-8")
