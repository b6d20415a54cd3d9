"""One log line for each request, its id, and the counts and times in the metrics. Torch-free.

A line never contains the path, the query or headers, which may hold secrets: the route template stands for the path.
"""

import json
import logging
import re
import secrets
import time
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.addresses import TrustedProxies
from service.api.metrics import UNKNOWN_ROUTE, Metrics
from service.api.thread_pools import NoAnswer
from service.rest.disconnect import CLIENT_CLOSED_REQUEST
from service.rest.problems import internal_problem
from service.store.errors import StoreUnavailable

HEADER = "X-Request-ID"
PROBES = frozenset({"/livez", "/readyz", "/metrics"})
"""Routes that are not logged, because monitoring requests them all the time."""

_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

requests_logger = logging.getLogger("service.requests")
logger = logging.getLogger(__name__)


class RequestLog:
    """The outermost middleware: sets `request.state.request_id`, and turns unexpected errors into problems."""

    def __init__(self, app: ASGIApp, metrics: Metrics, proxies: TrustedProxies) -> None:
        self._app = app
        self._metrics = metrics
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = _Record(scope, self._proxies)

        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                MutableHeaders(scope=message)[HEADER] = record.request_id
                self._count(record)
            elif message["type"] == "http.response.body":
                record.num_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except ClientDisconnect:
            if not record.status:
                record.status = CLIENT_CLOSED_REQUEST
                self._count(record)
        except Exception as error:
            if record.status and isinstance(error, NoAnswer | StoreUnavailable):
                logger.warning("request %s was cut off: %s", record.request_id, error)
            else:
                logger.exception("request %s failed", record.request_id)
            if record.status:
                raise  # the server breaks the connection, so that the client sees that something is missing
            await internal_problem()(scope, receive, observed)
        finally:
            if record.route not in PROBES:
                requests_logger.info("%s", record.as_json())

    def _count(self, record: "_Record") -> None:
        route = record.route
        method = record.method if route != UNKNOWN_ROUTE else UNKNOWN_ROUTE
        self._metrics.requests.labels(method, route, str(record.status)).inc()
        self._metrics.latency.labels(method, route).observe(record.elapsed_s)


class _Record:
    """The facts about a request that its log line contains."""

    def __init__(self, scope: Scope, proxies: TrustedProxies) -> None:
        headers = Headers(scope=scope)
        sent = headers.get(HEADER, "")
        peer = scope["client"][0] if scope.get("client") else ""
        self.client = proxies.client_of(peer, headers.getlist("x-forwarded-for"))
        self.request_id = sent if _WELL_FORMED.fullmatch(sent) else secrets.token_hex(8)
        self.status = 0
        self.num_bytes = 0
        self.method: str = scope["method"][:16]
        self._started_at = time.time()
        self._started = time.perf_counter()
        self._scope = scope
        self._state: dict[str, Any] = scope.setdefault("state", {})
        self._state["request_id"] = self.request_id

    @property
    def route(self) -> str:
        """The template of the path; the path itself is unlimited and may contain anything."""
        return getattr(self._scope.get("route"), "path", UNKNOWN_ROUTE)

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self._started

    def as_json(self) -> str:
        started = datetime.fromtimestamp(self._started_at, UTC).isoformat(timespec="milliseconds")
        return json.dumps(
            {
                "time": started.replace("+00:00", "Z"),
                "request": self.request_id,
                "client": self.client,
                "principal": getattr(self._state.get("principal"), "name", None),
                "method": self.method,
                "route": self.route,
                "status": self.status,
                "ms": round(1000 * self.elapsed_s, 1),
                "bytes": self.num_bytes,
            }
        )
