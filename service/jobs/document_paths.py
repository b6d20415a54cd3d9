"""Problems of a job document, located by the keys that lead to their values."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from pipelines.base.errors import FieldProblem
from pipelines.spec.job import JobSpec
from service.jobs.errors import JobProblem


def document_problems(
    problems: Iterable[FieldProblem], config: dict[str, Any], schema: type[BaseModel] = JobSpec
) -> list[JobProblem]:
    """Return problems of a document with the paths of their values in it."""
    return [_located(problem, config, schema) for problem in problems]


def _located(problem: FieldProblem, config: dict[str, Any], schema: type[BaseModel]) -> JobProblem:
    keys = [*schema.model_fields, *config]
    if problem.field and not any(f"{problem.field}.".startswith(f"{key}.") for key in keys):
        # A data file does not correspond to a field of the document.
        return JobProblem(("data",), str(problem))
    path = _path(problem.field, config) if problem.field else []
    return JobProblem(tuple(path), problem.message)


def _path(dotted: str, node: Any) -> list[str]:
    """Return the keys of a dotted name; keys of the document may contain dots themselves."""
    if isinstance(node, dict):
        candidates = [
            [key, *_path(dotted[len(key) + 1 :], value)] if len(dotted) > len(key) else [key]
            for key, value in node.items()
            if dotted == key or dotted.startswith(f"{key}.")
        ]
        if candidates:
            # The path with the fewest keys matches the longest ones: nothing at its end was split at dots.
            return min(candidates, key=len)
    if isinstance(node, list) and (head := dotted.split(".")[0]).isdecimal() and int(head) < len(node):
        rest = dotted[len(head) + 1 :]
        return [head, *_path(rest, node[int(head)])] if rest else [head]
    return dotted.split(".")
