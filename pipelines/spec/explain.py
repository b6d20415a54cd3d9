"""Readable schema errors: the field, its value, and valid alternatives."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipelines.base.errors import FieldProblem
from pipelines.base.suggestions import did_you_mean
from pipelines.spec.job import JobSpec

TAGS = ("head", "format", "kind", "op")
"""Fields that choose the member of a union."""

MAX_EXPLAINED = 100
"""Further errors are only counted: a document may have 50,000 unknown keys."""


def explain(
    error: ValidationError, document: Mapping[str, Any], schema: type[BaseModel] = JobSpec
) -> list[FieldProblem]:
    """Return one problem for each invalid field; the errors of all members of a union are joined in one problem.

    Args:
        error: of the document's validation.
        document: the document.
        schema: of the document.
    """
    messages: dict[str, list[str]] = {}
    every = error.errors(include_url=False)
    for details in every[:MAX_EXPLAINED]:
        if details["type"] == "too_short" and details["ctx"]["actual_length"] < len(details["input"]):
            continue  # pydantic does not count entries that are invalid themselves
        path = _path(details["loc"], document, is_missing=details["type"] == "missing")
        if details["type"].startswith("union_tag"):
            path.append(str(details["ctx"]["discriminator"]).strip("'"))
        message, field = _message(details, path, schema), ".".join(path)
        if (
            details["type"] == "value_error"
            and ": " in message
            and message.split(": ")[0].replace(".", "").isidentifier()
        ):
            inner, message = message.split(": ", 1)
            field = inner if inner.split(".")[0] in schema.model_fields else ".".join([*path, inner])
        if message not in messages.setdefault(field, []):
            messages[field].append(message)
    problems = [FieldProblem(field, "; or ".join(texts)) for field, texts in messages.items()]
    if len(every) > MAX_EXPLAINED:
        problems.append(FieldProblem("", f"and {len(every) - MAX_EXPLAINED} more; fix these first"))
    return problems


def _path(location: tuple[int | str, ...], document: Any, *, is_missing: bool) -> list[str]:
    """Return the location in the document, without the keys that pydantic adds for members of unions.

    Args:
        location: of an error, from pydantic.
        document: the document.
        is_missing: the last key is a field that the document lacks.
    """
    node, path = document, []
    for position, key in enumerate(location):
        inside = isinstance(node, Mapping) and (key in node or str(key) in map(str, node))
        inside = inside or (isinstance(node, list | tuple) and isinstance(key, int) and key < len(node))
        is_tag = isinstance(node, Mapping) and key in [node.get(tag) for tag in TAGS] and position < len(location) - 1
        if inside and not is_tag:
            path.append(str(key))
            node = _child(node, key)
        elif is_missing and isinstance(node, Mapping) and position == len(location) - 1:
            path.append(str(key))
    return path


def _child(node: Any, key: int | str) -> Any:
    if isinstance(node, Mapping):
        return next(value for name, value in node.items() if str(name) == str(key))
    return node[int(key)]


def _message(details: ErrorDetails, path: list[str], schema: type[BaseModel]) -> str:
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "extra_forbidden":
        known = _known_keys(details["loc"][:-1], schema)
        return f"unknown key{_suggestion(path[-1], known)}; known are {', '.join(known)}"
    if kind == "missing":
        return "missing; add it"
    if kind == "literal_error":
        return f"got {value!r}{_suggestion(str(value), _quoted(context['expected']))}; choose {context['expected']}"
    if kind == "union_tag_invalid":
        tag = str(context["tag"])
        expected = context["expected_tags"]
        return f"got {tag!r}{_suggestion(tag, _quoted(expected))}; choose one of {expected}"
    if kind == "union_tag_not_found":
        return "missing; add it"
    if kind == "value_error":
        return str(context["error"])
    if kind == "string_pattern_mismatch":
        marks = "'.', '_' and '-'" if "_.-" in context["pattern"] else "'_' and '-'"
        return f"got {value!r}; use letters, digits, {marks}, at most 64 characters, starting with a letter or digit"
    text = re.sub(r"valid dictionary( or (instance|object) .*)?", "mapping", details["msg"])
    text = text.replace("Input should be", "should be").replace("a valid tuple", "a list")
    return f"got {_short(value)}; {text[0].lower()}{text[1:]}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _quoted(expected: str) -> list[str]:
    return expected.split("'")[1::2]


def _suggestion(name: str, choices: list[str]) -> str:
    suggestion = did_you_mean(name, choices)
    return f"; {suggestion}" if suggestion else ""


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def _known_keys(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    """Return the keys that the schema has at a location."""
    schema = _schema(model)

    def members(node: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the node, or the members of a union that no field of the document discriminates."""
        if "$ref" in node:
            return members(schema["$defs"][node["$ref"].rsplit("/", 1)[-1]])
        union = node.get("anyOf", []) + ([] if "discriminator" in node else node.get("oneOf", []))
        return [inner for member in union for inner in members(member)] or [node]

    def child(node: dict[str, Any], key: int | str) -> dict[str, Any] | None:
        mapping = node.get("discriminator", {}).get("mapping", {})
        if key in mapping:
            return {"$ref": mapping[key]}
        if key in node.get("properties", {}):
            return dict(node["properties"][key])
        if isinstance(key, int):
            return node.get("items")
        values = node.get("additionalProperties") or next(iter(node.get("patternProperties", {}).values()), None)
        return values if isinstance(values, dict) else None

    nodes = members(schema)
    for key in location:
        inside = [inner for node in nodes if (found := child(node, key)) for inner in members(found)]
        nodes = inside or nodes  # pydantic adds keys for members of unions, which the schema does not have
    return sorted({key for node in nodes for key in node.get("properties", {})})
