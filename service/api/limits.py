"""Reject requests before they reach a route: foreign hosts and origins, bodies that are too large or not JSON."""

import ipaddress
import json
import math
from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.thread_pools import PooledRoute
from service.rest.problems import Problem, problem_response

MAX_DEPTH = 64
"""Maximum nesting of a JSON body; a job document has at most eight levels."""

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def is_loopback(host: str) -> bool:
    """Return True if the host in a `Host` header or URL, with or without a port, is this machine's loopback."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name) in _LOOPBACK
    except ValueError:
        return False


_LOOPBACK = frozenset({ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")})


class LoopbackOnly:
    """Rejects requests that a foreign web page makes a browser on this machine send.

    A foreign `Host` is a name that resolves to this machine (DNS rebinding); a foreign `Origin` is another web site.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (rejection := _rejection(scope["method"], Headers(scope=scope))):
            await rejection(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _rejection(method: str, headers: Headers) -> Response | None:
    host = headers.get("host", "")
    if not is_loopback(host):
        detail = f"got the host {host[:80]!r}; this server accepts 127.0.0.1, localhost and [::1] only"
        return problem_response(400, "Unknown host", detail)
    origin = headers.get("origin")
    if method not in _SAFE_METHODS and origin is not None and not is_loopback(urlsplit(origin).netloc):
        return problem_response(
            403, "Unknown origin", f"web pages of {origin[:80]!r} may not change anything on this server"
        )
    return None


class JsonRoute(PooledRoute):
    """A route that accepts only strict JSON of at most `max_json_bytes` with the content type of JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        has_body = self.body_field is not None

        async def strict(request: Request) -> Response:
            if has_body:
                _require_json(request.headers.get("content-type", ""))
                request = _StrictRequest(request.scope, request.receive)
            return await handler(request)

        return strict


def _require_json(content_type: str) -> None:
    declared = Message()
    declared["content-type"] = content_type
    if not content_type or declared.get_content_type() != "application/json":
        raise Problem(415, "Not JSON", f"got the content type {content_type[:80]!r}; send the body as application/json")


class _StrictRequest(Request):
    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            limit = self.app.state.settings.max_json_bytes
            if int(self.headers.get("content-length", "0")) > limit:
                raise _too_large(limit)
            body = bytearray()
            async for chunk in self.stream():
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
            self._body = bytes(body)
        return self._body

    async def json(self) -> Any:
        return strict_json(await self.body())


def _too_large(limit: int) -> Problem:
    # The rest of the body stays unread, so the connection cannot carry another request.
    return Problem(
        413,
        "Body too large",
        f"a JSON body may have at most {limit} bytes; PYRAMIDION_MAX_JSON_BYTES sets the limit of the server",
        headers={"Connection": "close"},
    )


def strict_json(body: bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        Problem: 400 for invalid JSON, repeated keys, NaN, infinities and deep nesting.
    """
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_reject, parse_float=_finite, object_pairs_hook=_object)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise Problem(400, "Not JSON", f"the body is not valid JSON: {error}") from None
    _check_value(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {repeated[:40]!a} is repeated in one object; keep one of its values")
    return found


def _reject(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number; write null or omit it")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large for a floating-point number")
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
        raise Problem(
            400, "Not JSON", f"{text[:40]!a} contains an unpaired surrogate, which is not a character"
        ) from None


def _too_deep() -> Problem:
    return Problem(400, "Nested too deeply", f"the body has more than {MAX_DEPTH} levels; a job document has eight")
