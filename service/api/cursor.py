"""Opaque cursors, which mark the end of a page of jobs; clients send them back to get the next page."""

import base64
import binascii

from service.rest.problems import Problem


def write_cursor(number: int) -> str:
    """Return the cursor of the page after the job with this number."""
    return base64.urlsafe_b64encode(f"jobs:{number}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> int:
    """Return the job number in a cursor; raises Problem 422 if the cursor is invalid."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        kind, _, number = text.partition(":")
        if kind != "jobs" or not number.isdecimal() or len(number) > 18:
            raise ValueError(text)
    except (binascii.Error, ValueError):
        detail = f"query parameter 'cursor': got {cursor[:80]!r}; send an unchanged next_cursor, or omit it"
        raise Problem(422, "Invalid cursor", detail) from None
    return int(number)
