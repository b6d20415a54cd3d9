"""Reject query parameters that would be ignored: those that a route does not have, and repeated single values."""

from collections.abc import Iterator
from typing import Any, get_origin

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from pipelines.base.suggestions import did_you_mean


async def reject_ignored_parameters(request: Request) -> None:
    """Raise RequestValidationError for query parameters that the route of the request would ignore.

    These are parameters that it does not declare, such as a misspelled one, and all values but the last of a parameter
    that has a single value. Use it as a dependency of the application or of a router.
    """
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    is_list = dict(_declared(route.dependant))
    errors = []
    for name in request.query_params:
        values = request.query_params.getlist(name)
        if name not in is_list:
            errors.append(_error("unknown_parameter", name, _unknown(name, sorted(is_list)), name))
        elif len(values) > 1 and not is_list[name]:
            message = f"got {len(values)} values, of which only one can be used; send it once"
            errors.append(_error("repeated_parameter", name, message, values))
    if errors:
        raise RequestValidationError(errors)


def _declared(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    """Yield the name of each parameter, and whether it may be repeated."""
    for parameter in dependant.query_params:
        yield parameter.alias, get_origin(parameter.field_info.annotation) is list
    for dependency in dependant.dependencies:
        yield from _declared(dependency)


def _error(kind: str, name: str, message: str, value: object) -> dict[str, Any]:
    return {"type": kind, "loc": ("query", name), "msg": message, "input": value}


def _unknown(name: str, known: list[str]) -> str:
    if not known:
        return "unknown; this path has no query parameters"
    return f"unknown; {did_you_mean(name, known) or 'this path has ' + ', '.join(known)}"
