"""Reject requests that a foreign web page makes a browser send, before they reach a route."""

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.rest.problems import problem_response
from service.settings import Settings
from service.web.session import SAFE_METHODS

_LOOPBACK = frozenset({ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")})
_EVERY_ADDRESS = {"0.0.0.0", "::"}
_DEFAULT_PORTS = {"http": 80, "https": 443}

Address = tuple[str, int]
"""A host name in lower case, and a port."""


class KnownHostsOnly:
    """Rejects requests with a foreign `Host` or, if they can change something, a foreign `Origin`.

    A foreign `Host` is a name that an attacker made resolve to this server (DNS rebinding). An `Origin` is foreign if
    it is not the address of this server, port included: another port is another site, such as a notebook.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        listening = {settings.host} - _EVERY_ADDRESS
        self._hosts = frozenset(name.lower() for name in {*settings.allowed_hosts, *listening})
        self._origins = frozenset(origin.lower().rstrip("/") for origin in settings.allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (rejection := self._rejection(scope["method"], Headers(scope=scope))):
            await rejection(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _rejection(self, method: str, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if not self._is_known(host):
            known = ", ".join(["127.0.0.1", "localhost", "[::1]", *sorted(self._hosts - {"127.0.0.1", "localhost"})])
            detail = f"got the host {host[:80]!r}; this server accepts {known}, and PYRAMIDION_ALLOWED_HOSTS adds names"
            return problem_response(400, "Unknown host", detail)
        origin = headers.get("origin")
        if method in SAFE_METHODS or origin is None or self._is_own(origin, host):
            return None
        detail = (
            f"web pages of {origin[:80]!r} may not change anything on this server; PYRAMIDION_ALLOWED_ORIGINS lists "
            "the others that may"
        )
        return problem_response(403, "Unknown origin", detail)

    def _is_known(self, host: str) -> bool:
        """Return True if the host, with or without a port, is the loopback or an allowed name."""
        address = _address(f"http://{host}")
        if address is None:
            return False
        name = address[0]
        if name == "localhost" or name in self._hosts:
            return True
        try:
            return ipaddress.ip_address(name) in _LOOPBACK
        except ValueError:
            return False

    def _is_own(self, origin: str, host: str) -> bool:
        if origin.lower() in self._origins:
            return True
        # Behind a proxy with TLS, only the origin has the scheme that the client used.
        scheme = origin.partition("://")[0]
        return (
            scheme in _DEFAULT_PORTS
            and _address(origin) is not None
            and _address(origin) == _address(f"{scheme}://{host}")
        )


def _address(url: str) -> Address | None:
    """Return host and port of a URL; None if it has no host or is invalid."""
    try:
        parts = urlsplit(url)
        return (parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme]) if parts.hostname else None
    except ValueError:
        return None
