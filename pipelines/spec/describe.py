"""The document's fields, one a line, for `--help`: from the schema, so that there is no second list."""

from collections.abc import Iterator
from typing import Any

from pipelines.spec.job import JobSpec

NAME = "NAME"
"""Stands for a name that the document gives, such as a task's."""


def describe_fields() -> str:
    """Return `--dotted.name  type, default: what it is` for every field; a `NAME` stands for a task or a source, and
    of tasks and label layers each kind is told in turn."""
    schema = JobSpec.model_json_schema()
    return "\n".join(f"  --{name}  {text}" for name, text in _fields(schema, schema["$defs"], ""))


def _fields(node: dict[str, Any], defs: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, field in node.get("properties", {}).items():
        path = f"{prefix}.{key}" if prefix else key
        parts = list(_parts(field, defs, path))
        if parts:
            for part, part_path in parts:
                yield from _fields(part, defs, part_path)
        elif "const" not in field:
            yield path, _told(field, defs)


def _parts(field: dict[str, Any], defs: dict[str, Any], path: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Return the sections that a field holds, with the path of each."""
    if "$ref" in field:
        target = defs[field["$ref"].rsplit("/", 1)[-1]]
        if "properties" in target:
            yield target, path
    for member in field.get("anyOf", []) + ([] if "discriminator" in field else field.get("oneOf", [])):
        yield from _parts(member, defs, path)
    for tag, reference in field.get("discriminator", {}).get("mapping", {}).items():
        yield from _parts({"$ref": reference}, defs, f"{path}({tag})")
    if items := field.get("items"):
        yield from _parts(items, defs, f"{path}.0")
    for values in (*field.get("patternProperties", {}).values(), field.get("additionalProperties")):
        if isinstance(values, dict):
            yield from _parts(values, defs, f"{path}.{NAME}")


def _told(field: dict[str, Any], defs: dict[str, Any]) -> str:
    text = _type(field, defs)
    if "default" in field:
        text += f", default {field['default']}"
    return f"{text}: {field['description']}" if "description" in field else text


def _type(field: dict[str, Any], defs: dict[str, Any]) -> str:
    if "$ref" in field:
        return _type(defs[field["$ref"].rsplit("/", 1)[-1]], defs)
    if "enum" in field:
        return " | ".join(str(value) for value in field["enum"])
    if "const" in field:
        return str(field["const"])
    if "anyOf" in field:
        return " | ".join(dict.fromkeys(_type(member, defs) for member in field["anyOf"]))
    return str(field.get("type", "any")).replace("array", "list").replace("object", "mapping")
