"""The fields of the job document with type, default and description, read from its schema for `--help`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pipelines.spec.job import JobSpec

NAME = "NAME"
"""Stands for a name that the document chooses, such as a task's."""

Schema = dict[str, Any]


@dataclass(frozen=True)
class DocumentField:
    """One field of the document.

    Attributes:
        name: its dotted name.
        type: its type, for display.
        default: its default, for display; None if the field is required.
    """

    name: str
    type: str
    default: str | None
    description: str

    @property
    def help(self) -> str:
        """Description and default."""
        default = "required" if self.default is None else f"default: {self.default}"
        return f"{self.description} ({default})".lstrip()


@dataclass(frozen=True)
class FieldGroup:
    """The fields of one section of the document.

    Attributes:
        title: the section's dotted name; for a section of several kinds also the field that chooses the kind.
        is_pattern: the names are patterns (`model.tasks.NAME.weight`) or the section may be absent; otherwise every
            document has these fields, under exactly these names.
    """

    title: str
    description: str
    is_pattern: bool
    fields: list[DocumentField] = field(default_factory=list)


@cache
def field_groups() -> tuple[FieldGroup, ...]:
    """Return all fields by section, in the order of the document.

    A `NAME` in a dotted name stands for a task or a source, a `0` for a position in a list.
    """
    schema = JobSpec.model_json_schema()
    return tuple(group for group in _groups(schema, schema["$defs"], "", is_pattern=False) if group.fields)


def _groups(node: Schema, defs: dict[str, Schema], path: str, *, title: str = "", is_pattern: bool) -> Iterator[Any]:
    group = FieldGroup(title or path, _first_paragraph(node), is_pattern)
    inner: list[FieldGroup] = []
    for key, schema in node["properties"].items():
        name = f"{path}.{key}" if path else key
        section = _section(schema, defs)
        if section is not None:
            inner += _groups(section, defs, name, is_pattern=is_pattern)
        elif not (is_pattern and "const" in schema):  # a kind's own constant is in the title
            group.fields.append(_field(name, schema, defs))
            for member, member_path, member_title in _members(schema, defs, name, name):
                inner += _groups(member, defs, member_path, title=member_title, is_pattern=True)
    yield group
    yield from inner


def _section(schema: Schema, defs: dict[str, Schema]) -> Schema | None:
    """Return the section that a field always holds; None if it holds a value, or may hold something else."""
    target = defs[schema["$ref"].rsplit("/", 1)[-1]] if "$ref" in schema else {}
    return target if "properties" in target else None


def _members(schema: Schema, defs: dict[str, Schema], path: str, title: str) -> Iterator[tuple[Schema, str, str]]:
    """Return the sections that a field may hold (optional ones, items, values of a mapping, kinds) with the path and
    the title of each."""
    if section := _section(schema, defs):
        yield section, path, title
    elif "$ref" in schema:
        yield from _members(defs[schema["$ref"].rsplit("/", 1)[-1]], defs, path, title)
    discriminator = schema.get("discriminator", {})
    for member in schema.get("anyOf", []) + ([] if discriminator else schema.get("oneOf", [])):
        yield from _members(member, defs, path, title)
    for tag, reference in discriminator.get("mapping", {}).items():
        yield from _members({"$ref": reference}, defs, path, f"{title}, {discriminator['propertyName']}: {tag}")
    if items := schema.get("items"):
        yield from _members(items, defs, f"{path}.0", f"{title}.0")
    for values in (*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")):
        if isinstance(values, dict):
            yield from _members(values, defs, f"{path}.{NAME}", f"{title}.{NAME}")


def _field(name: str, schema: Schema, defs: dict[str, Schema]) -> DocumentField:
    default = _text(schema["default"]) if "default" in schema else None
    return DocumentField(name, _type(schema, defs), default, schema.get("description", ""))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _first_paragraph(node: Schema) -> str:
    return " ".join(node.get("description", "").partition("\n\n")[0].split())


def _type(schema: Schema, defs: dict[str, Schema]) -> str:
    if "$ref" in schema:
        return _type(defs[schema["$ref"].rsplit("/", 1)[-1]], defs)
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if members := schema.get("anyOf") or schema.get("oneOf"):
        return " | ".join(dict.fromkeys(_type(member, defs) for member in members))
    return str(schema.get("type", "any")).replace("array", "list").replace("object", "mapping")
