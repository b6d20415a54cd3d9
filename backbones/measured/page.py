"""Writes `docs/backbones.md` from the template `page.md` and the content of the catalog.

Run `python -m backbones.measured.page` after changing a row, a fact, a preset or a field.
"""

import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any

from pydantic import BaseModel

from backbones.catalog import descriptions
from backbones.catalog.facts import CPU_LIMIT_MACS, recorded_facts
from backbones.catalog.lookup import known_names
from backbones.catalog.row import LIBRARIES, BackboneRow
from backbones.catalog.rows import CATALOG
from backbones.spec.design import DesignSpec
from backbones.spec.design_fields import DesignAttention, DesignFields
from backbones.spec.surgery import OPERATIONS, AttentionSpec, Operation, SurgerySpec

PAGE_PATH = Path(__file__).parents[2] / "docs" / "backbones.md"
_TEMPLATE = Path(__file__).with_name("page.md")


def render_page() -> str:
    """Return the text of the page."""
    names = known_names()
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        timm_names=f"{len(names['timm']):,}",
        tv_names=len(names["tv"]),
        surgery_fields=_fields(SurgerySpec),
        attention=inspect.cleandoc(AttentionSpec.__doc__ or ""),
        attention_fields=_fields(AttentionSpec),
        operations=_table((f"`{operation}`", _takers(operation)) for operation in OPERATIONS),
        presets=_table_with_header(descriptions.presets()),
        design=inspect.cleandoc(DesignFields.__doc__ or ""),
        design_fields=_fields(DesignSpec),
        design_attention=inspect.cleandoc(DesignAttention.__doc__ or ""),
        design_attention_fields=_fields(DesignAttention),
        roadmap=_table_with_header(descriptions.roadmap()),
        cpu_limit=f"{CPU_LIMIT_MACS / 1e9:.0f}",
        families="\n\n".join(_family(name, list(rows)) for name, rows in groupby(CATALOG.values(), _family_of)),
    )


def _family_of(row: BackboneRow) -> str:
    return f"{row.family} ({row.year}, {descriptions.paper(row)})"


def _family(name: str, rows: list[BackboneRow]) -> str:
    header = ("name", "built by", "parameters", "GMACs", "c3, c4, c5", "default weights", "CPU", "shift")
    return f"### {name}\n\n{_table_with_header([header, *map(_cells, rows)])}"


def _cells(row: BackboneRow) -> tuple[str, ...]:
    facts = recorded_facts()[row.name]
    return (
        f"`{row.name}`",
        f"{LIBRARIES[row.source]} `{row.id}`",
        descriptions.millions(facts.parameters),
        descriptions.gmacs(facts.macs),
        ", ".join(map(str, facts.channels)),
        descriptions.weights(row),
        descriptions.yes(facts.trains_on_cpu),
        descriptions.yes(row.is_equivariant),
    )


def _takers(operation: Operation) -> str:
    return ", ".join(f"`{name}`" for name, row in CATALOG.items() if operation in row.takes) or "none"


def _fields(model: type[BaseModel]) -> str:
    """Return a table of the fields of a section of the document."""
    properties: dict[str, Any] = model.model_json_schema()["properties"]
    header = ("field", "values", "default", "description")
    rows = [
        (f"`{name}`", _values(field), _default(field), field.get("description", ""))
        for name, field in properties.items()
    ]
    return _table_with_header([header, *rows])


def _default(field: Mapping[str, Any]) -> str:
    return "" if field.get("default") is None else f"`{json.dumps(field['default'])}`"


def _values(schema: Mapping[str, Any]) -> str:
    """Return a description of the values that a JSON Schema accepts, without null."""
    if "anyOf" in schema:
        return " or ".join(_values(option) for option in schema["anyOf"] if option.get("type") != "null")
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"a list of {_values(schema['items'])}"
    if "$ref" in schema:
        return f"fields of `{schema['$ref'].rpartition('/')[2]}`"
    return _KINDS[schema["type"]]


_KINDS = {"integer": "whole numbers", "number": "numbers", "string": "text", "boolean": "`true`, `false`"}


def _table(rows: Iterable[Iterable[str]]) -> str:
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)


def _table_with_header(rows: Sequence[Sequence[str]]) -> str:
    header, *others = rows
    return _table([header, ["---"] * len(header), *others])


def write_page(path: Path) -> None:
    """Write the page to `path`."""
    path.write_text(render_page(), encoding="utf-8")


if __name__ == "__main__":
    write_page(PAGE_PATH)
