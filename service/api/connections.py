"""Limits of connections: their number, the size of headers, and the time that each part of a request may take.

uvicorn's fast parser limits none of these. A client that exceeds a limit gets a problem if it can still read one, and
the log has a line, at most one per limit in `LOG_EVERY_S`. Torch-free.
"""

import logging
import resource
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from enum import Enum

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from service.addresses import TrustedProxies
from service.settings import Settings

RESERVED_FILES = 256
"""Open files that connections leave for the database, logs, downloads and child processes, but at most half of all."""
MAX_SURPLUS = 64
"""Connections beyond the limit that are kept for a moment, so that their clients get an answer."""
LINGER_S = 2.0
LOG_EVERY_S = 10.0

logger = logging.getLogger(__name__)


class Limit(Enum):
    """The limits, with the name of each in metrics."""

    CONNECTIONS = "connections"
    CONNECTIONS_OF_CLIENT = "connections_of_client"
    HEADER_SIZE = "header_size"
    HEADER_TIME = "header_time"
    BODY_TIME = "body_time"
    READING_TIME = "reading_time"
    IDLE_TIME = "idle_time"
    SYNTAX = "syntax"


class Connections:
    """The connections of one server.

    Attributes:
        settings: the limits.
        maximum: maximum number of connections, within the limit of open files.
        idle: connections without a request, the one that waits for longest first.
        num_surplus: number of connections beyond the maximum, which get an answer and are closed.
        exceeded: number of times that each limit was exceeded.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._proxies = TrustedProxies(settings.trusted_proxies)
        files = _open_files()
        self.maximum = min(settings.max_connections, files - min(RESERVED_FILES, files // 2))
        self.idle: OrderedDict[HttpToolsProtocol, None] = OrderedDict()
        self.num_surplus = 0
        self.exceeded: Counter[Limit] = Counter()
        self._of_client: Counter[str] = Counter()
        self._logged: dict[Limit, tuple[float, int]] = {}

    @property
    def number(self) -> int:
        """Number of open connections."""
        return sum(self._of_client.values())

    def add(self, client: str) -> Limit | None:
        """Count a connection; return the limit that it exceeds, if any."""
        self._of_client[client] += 1
        if self._of_client[client] > self.settings.max_connections_per_client and self._is_limited(client):
            return Limit.CONNECTIONS_OF_CLIENT
        if self.number > self.maximum + self.num_surplus:
            return Limit.CONNECTIONS
        return None

    def _is_limited(self, client: str) -> bool:
        return client != "" and client not in self._proxies

    def remove(self, client: str) -> None:
        """Stop counting a connection."""
        self._of_client[client] -= 1
        if not self._of_client[client]:
            del self._of_client[client]

    def note(self, limit: Limit, client: str, detail: str) -> None:
        """Count and log that a limit was exceeded."""
        self.exceeded[limit] += 1
        now, (logged_at, logged) = time.monotonic(), self._logged.get(limit, (0.0, 0))
        if not logged or now - logged_at > LOG_EVERY_S:
            self._logged[limit] = (now, self.exceeded[limit])
            more = self.exceeded[limit] - logged - 1
            logger.warning("client %s: %s%s", client or "unknown", detail, f" ({more} more like this)" if more else "")


def raise_open_files() -> None:
    """Allow this process as many open files as the system lets it have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _open_files() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


def sweep(state: ServerState) -> None:
    """Close the connections whose time is over."""
    for connection in list(state.connections):
        check: Callable[[], None] | None = getattr(connection, "check_time", None)
        if check is not None:
            check()
