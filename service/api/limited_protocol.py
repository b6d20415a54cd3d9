"""uvicorn's protocol of one connection, with the limits of `service.api.connections`. Torch-free."""

import asyncio
from collections.abc import Mapping
from enum import Enum
from typing import Any, cast

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.api.connections import LINGER_S, MAX_SURPLUS, Connections, Limit
from service.rest.problems import problem_response

LIVENESS = b"/livez"


class Phase(Enum):
    """The event that a connection waits for."""

    IDLE = "a request"
    HEADERS = "the rest of the headers"
    BODY = "the rest of the body"
    RESPONSE = "the response"


class LimitedProtocol(HttpToolsProtocol):
    """One connection. `check_time` is called about once a second."""

    def __init__(self, connections: Connections, **options: Any) -> None:
        super().__init__(**options)
        self._connections = connections
        self._settings = connections.settings
        self._phase = Phase.IDLE
        self._since = self._checked_at = self.loop.time()
        self._overhead = 0
        self._body_bytes = 0
        self._num_requests = 0
        self._stalled_at: float | None = None
        self._closes_at: float | None = None
        self._is_surplus = False
        self._peer = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._peer = self.client[0] if self.client else ""
        self._enter(Phase.IDLE)
        exceeded = self._connections.add(self._peer)
        if exceeded is Limit.CONNECTIONS and len(self._connections.idle) > 1:
            # A client that waits for nothing loses least.
            longest = next(iter(self._connections.idle))
            assert isinstance(longest, LimitedProtocol)
            longest.drop(
                Limit.CONNECTIONS, "closed an idle connection, because the limit of all connections is reached"
            )
        elif exceeded is not None:
            self._become_surplus(exceeded)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.idle.pop(self, None)
        self._connections.remove(self._peer)
        self._connections.num_surplus -= self._is_surplus
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.IDLE:
            self._enter(Phase.HEADERS)
        limit = self._settings.max_header_bytes
        while data and self._closes_at is None and self.parser is not None:
            size = len(data) if self._phase is Phase.BODY else limit + 1 - self._overhead
            piece, data = data[:size], data[size:]
            self._overhead += len(piece)
            super().data_received(piece)
            if self._overhead > limit and self._closes_at is None:
                detail = (
                    f"headers may have at most {limit} bytes; PYRAMIDION_MAX_HEADER_BYTES sets the limit of the server"
                )
                self._refuse(Limit.HEADER_SIZE, 431, "Headers too large", detail)

    def on_message_begin(self) -> None:
        if self._phase is not Phase.HEADERS:
            self._enter(Phase.HEADERS)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._enter(Phase.BODY)
        self._num_requests += 1
        if self._is_surplus and self.url.partition(b"?")[0] != LIVENESS:
            self.app = _too_many_connections
        super().on_headers_complete()
        if self.cycle is not None:
            self.cycle.transport = cast(asyncio.Transport, _ResponseTransport(self))

    def on_body(self, body: bytes) -> None:
        self._overhead = 0
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._enter(Phase.RESPONSE)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._is_responding:
            self._since = self.loop.time()  # of a request that began to arrive during the response
            if self._phase is Phase.RESPONSE:
                self._enter(Phase.IDLE)

    def pause_writing(self) -> None:
        self._stalled_at = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled_at = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        detail = (
            "the request is not valid HTTP/1.1; send the method, the path, the headers and the body as RFC 9112 says"
        )
        self._refuse(Limit.SYNTAX, 400, "Not HTTP", detail)

    def check_time(self) -> None:
        """Close this connection if its time is over."""
        settings, now = self._settings, self.loop.time()
        waited_s, passed_s, self._checked_at = now - self._since, now - self._checked_at, now
        if self._closes_at is not None or self.transport.is_closing():
            self._closes_at = self._closes_at or now + LINGER_S
            if now > self._closes_at:
                self.transport.abort()
        elif self._stalled_at is not None and now - self._stalled_at > settings.write_timeout_s:
            detail = f"closed a connection whose client has read nothing for {settings.write_timeout_s:g} s"
            self.drop(Limit.READING_TIME, detail)
        elif self._phase is Phase.IDLE and waited_s > (LINGER_S if self._is_surplus else settings.idle_timeout_s):
            self.drop(None if self._num_requests else Limit.IDLE_TIME, "closed a connection without any request")
        elif self._phase is Phase.HEADERS and not self._is_responding and waited_s > settings.header_timeout_s:
            self._refuse_slow(Limit.HEADER_TIME, f"the headers did not arrive within {settings.header_timeout_s:g} s")
        elif self._phase is Phase.BODY:
            if self.flow.read_paused:
                self._since += passed_s  # it is the server that is slow
            elif waited_s > settings.body_timeout_s + self._body_bytes / settings.min_body_bytes_per_s:
                detail = f"{self._body_bytes} bytes of the body arrived within {waited_s:.0f} s"
                self._refuse_slow(Limit.BODY_TIME, detail)

    def drop(self, limit: Limit | None, detail: str) -> None:
        """Close this connection without an answer; without a limit, this is normal."""
        if limit is not None:
            self._connections.note(limit, self._peer, detail)
        self._connections.idle.pop(self, None)
        self.transport.abort()

    @property
    def _is_responding(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _enter(self, phase: Phase) -> None:
        self._phase, self._since, self._overhead = phase, self.loop.time(), 0
        if phase is Phase.BODY:
            self._body_bytes = 0
        if phase is Phase.IDLE:
            self._connections.idle[self] = None
        else:
            self._connections.idle.pop(self, None)

    def _become_surplus(self, limit: Limit) -> None:
        """Answer the first request with 503, except that of liveness; close at once if too many wait for that."""
        setting = "MAX_CONNECTIONS" + ("_PER_CLIENT" if limit is Limit.CONNECTIONS_OF_CLIENT else "")
        self._connections.note(limit, self._peer, f"too many connections; PYRAMIDION_{setting} sets the limit")
        if self._connections.num_surplus < MAX_SURPLUS:
            self._is_surplus = True
            self._connections.num_surplus += 1
        else:
            self.transport.abort()

    def _refuse_slow(self, limit: Limit, detail: str) -> None:
        self._refuse(limit, 408, "The request took too long", f"{detail}; send it again on a faster connection")

    def _refuse(self, limit: Limit, status: int, title: str, detail: str) -> None:
        """Send a problem unless a response has started, ignore what the client still sends, and close soon."""
        self._connections.note(limit, self._peer, detail)
        self._connections.idle.pop(self, None)
        if not self._is_responding or not self.cycle.response_started:
            self.transport.write(_raw_problem(status, title, detail))
        if self._is_responding:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._linger()

    def close_after_response(self) -> None:
        """Close this connection after a response with `Connection: close`, also in the middle of a request."""
        if self._phase is Phase.BODY:
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        # Closing at once would reset the connection while the client still sends, and it would not read the answer.
        self._closes_at = self.loop.time() + LINGER_S
        self.pipeline.clear()
        self.flow.resume_reading()
        self.transport.write_eof()


class _ResponseTransport:
    """The transport that uvicorn writes a response to, and closes after it."""

    def __init__(self, protocol: LimitedProtocol) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        """Whether the connection is being closed."""
        return self._protocol.transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send a part of the response."""
        self._protocol.transport.write(data)

    def close(self) -> None:
        """Close the connection once the client can have read the response."""
        self._protocol.close_after_response()


def _raw_problem(status: int, title: str, detail: str, headers: Mapping[str, str] | None = None) -> bytes:
    response = problem_response(status, title, detail, headers={"Connection": "close", **(headers or {})})
    lines = b"".join(name + b": " + text + b"\r\n" for name, text in response.raw_headers)
    return STATUS_LINE[status] + lines + b"\r\n" + bytes(response.body)


async def _too_many_connections(scope: Scope, receive: Receive, send: Send) -> None:
    headers = {"Connection": "close", "Retry-After": "5"}
    detail = "the limit of open connections is reached; close connections, or try again later"
    await problem_response(503, "Too many connections", detail, headers=headers)(scope, receive, send)
