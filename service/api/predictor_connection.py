"""HTTP connections from the API to one predictor. Torch-free."""

import asyncio
import io
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from service.predictor_address import HEALTH_PATH, PredictorAddress

_MAX_CONNECT_S = 5.0
_MAX_HEADER_BYTES = 64 << 10
"""Longest header of an answer; the warnings about an image are one header."""


class ConnectionBroken(Exception):
    """The connection cannot be opened, or it ended before the answer."""


@dataclass(frozen=True)
class PredictorAnswer:
    """A complete answer of a predictor; names of headers have no case."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def is_success(self) -> bool:
        """Whether the status is one of success (2xx)."""
        return 200 <= self.status_code < 300

    @property
    def text(self) -> str:
        """The content as text."""
        return self.content.decode(errors="replace")


class PredictorConnection:
    """The connections to a predictor. Use it in one event loop.

    Connections stay open for some seconds after a request, as many as requests were in progress at once.

    Args:
        address: where it listens.
        secret: sent with each request; None: the predictor has none.
    """

    def __init__(self, address: PredictorAddress, secret: str | None = None) -> None:
        connector = (
            aiohttp.TCPConnector(limit=0) if address.path is None else aiohttp.UnixConnector(address.path, limit=0)
        )
        # By default, variables such as HTTP_PROXY have no effect, so that requests do not reach another host.
        self._session = aiohttp.ClientSession(
            address.base_url,
            connector=connector,
            headers={} if secret is None else {"Authorization": f"Bearer {secret}"},
            cookie_jar=aiohttp.DummyCookieJar(),
            max_field_size=_MAX_HEADER_BYTES,
        )

    async def send(
        self, method: str, path: str, query: Mapping[str, str], content: bytes, timeout_s: float
    ) -> PredictorAnswer:
        """Return the complete answer.

        Raises:
            TimeoutError: it did not arrive in time.
            ConnectionBroken: the connection cannot be opened, or it ended before the answer.
        """
        limits = aiohttp.ClientTimeout(total=None, sock_connect=min(timeout_s, _MAX_CONNECT_S))
        body = io.BytesIO(content) if content else None
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.request(
                    method, path, params=query, data=body, timeout=limits, allow_redirects=False
                ) as response,
            ):
                received = await response.read()
                return PredictorAnswer(response.status, response.headers, received)
        except aiohttp.ClientError as error:  # a connection that is not opened in time is one, too
            raise ConnectionBroken(f"{type(error).__name__}: {error}") from error

    async def is_healthy(self, timeout_s: float) -> bool:
        """Return whether the predictor says in time that it works."""
        try:
            return (await self.send("GET", HEALTH_PATH, {}, b"", timeout_s)).status_code == 200
        except (TimeoutError, ConnectionBroken):
            return False

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()
