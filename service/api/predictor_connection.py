"""HTTP connections from the API to one predictor. Torch-free."""

import asyncio
from collections.abc import Mapping
from urllib.parse import urlencode

import httpx2

from service.predictor_address import HEALTH_PATH, PredictorAddress

_MAX_CONNECT_S = 5.0


class PredictorConnection:
    """The connections to a predictor.

    Args:
        address: where it listens.
        num_kept: number of idle connections to keep open.
        secret: sent with each request; None: the predictor has none.
    """

    def __init__(self, address: PredictorAddress, num_kept: int, secret: str | None = None) -> None:
        self._base_url = address.base_url
        self._headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=num_kept)
        # Variables such as HTTP_PROXY must not lead requests to another host.
        self._transport = httpx2.AsyncHTTPTransport(uds=address.path, limits=limits, trust_env=False)

    async def send(
        self, method: str, path: str, query: Mapping[str, str], content: bytes, timeout_s: float
    ) -> httpx2.Response:
        """Return the complete response.

        Raises:
            TimeoutError: it did not arrive in time.
            httpx2.TransportError: the connection cannot be opened, or it broke.
        """
        url = f"{self._base_url}{path}?{urlencode(query)}"
        connect = {"connect": min(timeout_s, _MAX_CONNECT_S)}
        request = httpx2.Request(
            method, url, content=content, headers=self._headers, extensions={"timeout": {**_NO_TIMEOUTS, **connect}}
        )
        async with asyncio.timeout(timeout_s):
            response = await self._transport.handle_async_request(request)
            try:
                await response.aread()
            finally:
                await response.aclose()
            return response

    async def is_healthy(self, timeout_s: float) -> bool:
        """Return whether the predictor says in time that it works."""
        try:
            return (await self.send("GET", HEALTH_PATH, {}, b"", timeout_s)).status_code == 200
        except (TimeoutError, httpx2.TransportError):
            return False

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.aclose()


_NO_TIMEOUTS: dict[str, float | None] = {"read": None, "write": None, "pool": None}
