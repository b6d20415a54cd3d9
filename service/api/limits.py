"""Reject bodies that are too large, not strict JSON, or that a database cannot store, before they reach a route."""

import json
import math
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from starlette.responses import Response

from service.api.content_negotiation import media_type_of
from service.api.thread_pools import PooledRoute
from service.rest.limited_request import LimitedRequest
from service.rest.problems import Problem

MAX_DEPTH = 64
"""Maximum nesting of a JSON body; a job document has at most eight levels."""
MAX_INTEGER = 2**63 - 1
"""The largest integer of every database; its negative is the smallest one here."""


class JsonRoute(PooledRoute):
    """A route that accepts only strict JSON of at most `max_json_bytes` with the content type of JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        has_body = self.body_field is not None

        async def strict(request: Request) -> Response:
            if has_body:
                _require_json(request.headers.get("content-type", ""))
                request = StrictRequest(request.scope, request.receive)
            return await handler(request)

        return strict


def _require_json(content_type: str) -> None:
    if media_type_of(content_type) != "application/json":
        raise Problem(415, "Not JSON", f"got the content type {content_type[:80]!r}; send the body as application/json")


class StrictRequest(LimitedRequest):
    """A request whose body must be strict JSON of at most `max_json_bytes`; reading it raises Problem 400 or 413."""

    async def json(self) -> Any:
        return strict_json(await self.body())


def strict_json(body: bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        Problem: 400 for invalid JSON, repeated keys, NaN, infinities, integers of more than 64 bits, texts with NUL or
            an unpaired surrogate, and deep nesting.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            parse_constant=_reject,
            parse_float=_finite,
            parse_int=_integer,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise Problem(400, "Not JSON", f"the body is not valid JSON: {error}") from None
    _check_value(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {repeated[:40]!a} is repeated in one object; keep one of its values")
    return found


def _reject(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number; write null or omit it")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large for a floating-point number")
    return number


def _integer(text: str) -> int:
    if len(text) > 20 or abs(number := int(text)) > MAX_INTEGER:
        raise ValueError(f"{text[:20]} is too large for an integer of 64 bits; write a smaller number")
    return number


def _check_value(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _require_text(item)
            elif isinstance(item, list):
                below += item
            elif isinstance(item, dict):
                below += [*item, *item.values()]
        if not below:
            return
        level = below
    raise _too_deep()


def _require_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        detail = f"{text[:40]!a} contains an unpaired surrogate, which is not a character; remove it"
    else:
        if "\0" not in text:
            return
        detail = f"{text[:40]!a} contains the character NUL, which no text can have; remove it"
    raise Problem(400, "Invalid character", detail)


def _too_deep() -> Problem:
    return Problem(400, "Nested too deeply", f"the body has more than {MAX_DEPTH} levels; a job document has eight")
