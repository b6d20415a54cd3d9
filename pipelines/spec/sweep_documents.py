"""The documents of a sweep's trials, and those at the corners of its search space. Torch-free."""

import itertools
import random
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.spec.load import Document, apply_override
from pipelines.spec.sweep import SweepSpec

Values = Mapping[str, JsonValue]
"""The values of searched fields, by dotted name."""

MAX_CORNERS = 64
"""Number of documents that are checked, unless a field has more choices; each takes some milliseconds."""
MAX_BASE_NAME = 58
"""Characters of the sweep's name in the name of a trial."""


def trial_document(spec: SweepSpec, values: Values, name: str | None = None) -> Document:
    """Return the document of a sweep with the values of a trial.

    Args:
        spec: the sweep.
        values: of all searched fields.
        name: of the job; None keeps that of the document.

    Raises:
        ConfigError: a searched field is at a position that a list does not have.
    """
    document: Document = dict(spec.document)
    for field, value in values.items():
        try:
            document = apply_override(document, field, value)
        except ConfigError as error:
            raise ConfigError(FieldProblem(f"search.{field}", error.problems[0].message)) from error
    return document if name is None else {**document, "name": name}


def trial_name(sweep_name: str, number: int) -> str:
    """Return the name of a trial's job."""
    return f"{sweep_name[:MAX_BASE_NAME]}-{number}"


def corners(spec: SweepSpec) -> list[Values]:
    """Return values at the corners of the search space: all combinations of extremes if they are few.

    Otherwise every extreme is in at least one of them, and further combinations are drawn at random, always the same.
    """
    names, extremes = list(spec.search), [space.extremes for space in spec.search.values()]
    combinations = itertools.product(*extremes)
    found: list[Values] = [
        dict(zip(names, values, strict=True)) for values in itertools.islice(combinations, MAX_CORNERS + 1)
    ]
    if len(found) <= MAX_CORNERS:
        return found
    longest = max(map(len, extremes))
    found = [
        {name: values[k % len(values)] for name, values in zip(names, extremes, strict=True)} for k in range(longest)
    ]
    draw = random.Random(spec.seed)
    while len(found) < MAX_CORNERS:
        found.append({name: draw.choice(values) for name, values in zip(names, extremes, strict=True)})
    return found


def locate(spec: SweepSpec, values: Values, path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the path in a sweep of a problem of a trial's document: at a searched field, or in the document.

    Args:
        spec: the sweep.
        values: of the trial.
        path: keys of the job document.
    """
    dotted = ".".join(path)
    parent = ".".join(path[:-1])
    for name in values:
        is_part = f"{dotted}.".startswith(f"{name}.") or (dotted and name.startswith(f"{dotted}."))
        # A key is missing in a mapping that only the searched field adds.
        is_sibling = parent and name.startswith(f"{parent}.") and not _has(spec.document, path[:-1])
        if is_part or is_sibling:
            return ("search", name)
    return ("document", *path)


def shown_values(values: Values) -> str:
    """Return the values of a trial in one line."""
    return ", ".join(f"{name}={_short(value)}" for name, value in values.items())


def _has(node: Any, path: tuple[str, ...]) -> bool:
    for key in path:
        if isinstance(node, Mapping):
            node = next((value for name, value in node.items() if str(name) == key), None)
        elif isinstance(node, list) and key.isdecimal() and int(key) < len(node):
            node = node[int(key)]
        else:
            return False
    return node is not None


def _short(value: JsonValue) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
