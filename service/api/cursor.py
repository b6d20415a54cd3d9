"""Opaque cursors, which mark the end of a page of a list; clients send them back to get the next page."""

import base64
import binascii
from typing import Annotated, Any

from fastapi import Query, Request, Response

from service.rest.problems import Problem

PageCursor = Annotated[str | None, Query(max_length=100, description="`next_cursor` of the previous page")]
LINKED: dict[int | str, dict[str, Any]] = {
    200: {"headers": {"Link": {"schema": {"type": "string"}, "description": "rel=next"}}}
}
"""The header of `link_next`, for the OpenAPI document."""


def write_cursor(number: int, kind: str = "jobs") -> str:
    """Return the cursor of the page after the row with this number; `kind` is the list that it belongs to."""
    return base64.urlsafe_b64encode(f"{kind}:{number}".encode()).decode().rstrip("=")


def read_cursor(cursor: str, kind: str = "jobs") -> int:
    """Return the number in a cursor; raises Problem 422 if the cursor is invalid, or belongs to another list."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        found, _, number = text.partition(":")
        if found != kind or not number.isdecimal() or len(number) > 18:
            raise ValueError(text)
    except (binascii.Error, ValueError):
        detail = f"query parameter 'cursor': got {cursor[:80]!r}; send an unchanged next_cursor, or omit it"
        raise Problem(422, "Invalid cursor", detail) from None
    return int(number)


def link_next(request: Request, response: Response, number: int, kind: str = "jobs") -> str:
    """Return the cursor of the page after the row with this number, and send its URL in the header `Link`."""
    cursor = write_cursor(number, kind)
    url = request.url.include_query_params(cursor=cursor)
    response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
    return cursor
