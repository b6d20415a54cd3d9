"""Reject query parameters that a route does not have, so that a misspelled one is not silently ignored."""

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from pipelines.base.suggestions import did_you_mean


async def reject_unknown_parameters(request: Request) -> None:
    """Raise RequestValidationError for query parameters that the route of the request does not declare.

    Use it as a dependency of the application or of a router.
    """
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    known = sorted(set(_declared(route.dependant)))
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        raise RequestValidationError(
            [
                {"type": "unknown_parameter", "loc": ("query", name), "msg": _message(name, known), "input": name}
                for name in unknown
            ]
        )


def _declared(dependant: Dependant) -> Iterator[str]:
    for parameter in dependant.query_params:
        yield parameter.alias
    for dependency in dependant.dependencies:
        yield from _declared(dependency)


def _message(name: str, known: list[str]) -> str:
    if not known:
        return "unknown; this path has no query parameters"
    return f"unknown; {did_you_mean(name, known) or 'this path has ' + ', '.join(known)}"
