"""Requests whose bodies are limited. Torch-free."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import Request

from service.rest.problems import Problem


class LimitedRequest(Request):
    """A request whose body has at most `max_json_bytes`; reading more raises Problem 413."""

    async def stream(self) -> AsyncGenerator[bytes, None]:
        limit = self.app.state.settings.max_json_bytes
        if int(self.headers.get("content-length", "0")) > limit:
            raise _too_large(limit)
        size = 0
        async with aclosing(super().stream()) as chunks:
            async for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                yield chunk


def _too_large(limit: int) -> Problem:
    # The rest of the body stays unread, so the connection cannot carry another request.
    return Problem(
        413,
        "Body too large",
        f"the body may have at most {limit} bytes; PYRAMIDION_MAX_JSON_BYTES sets the limit of the server",
        headers={"Connection": "close"},
    )
