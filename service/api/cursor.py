"""Opaque cursors, which mark the end of a page; clients send them back to get the next page."""

import base64
import binascii

from service.rest.problems import Problem


def write_cursor(number: int, kind: str = "jobs") -> str:
    """Return the cursor of the page after the job, or the row of another kind, with this number."""
    return base64.urlsafe_b64encode(f"{kind}:{number}".encode()).decode().rstrip("=")


def read_cursor(cursor: str, expected: str = "jobs") -> int:
    """Return the number in a cursor of this kind; raises Problem 422 if the cursor is invalid."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        kind, _, number = text.partition(":")
        if kind != expected or not number.isdecimal() or len(number) > 18:
            raise ValueError(text)
    except (binascii.Error, ValueError):
        detail = f"query parameter 'cursor': got {cursor[:80]!r}; send an unchanged next_cursor, or omit it"
        raise Problem(422, "Invalid cursor", detail) from None
    return int(number)
