"""Where a page of jobs ends, as a text that clients hand back and need not understand."""

import base64
import binascii

from service.rest.problems import Problem


def write_cursor(number: int) -> str:
    """Return the cursor of the page that begins after the job of this number."""
    return base64.urlsafe_b64encode(f"jobs:{number}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> int:
    """Return the number that a cursor stands for; raises Problem 422 where it is none of ours."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        kind, _, number = text.partition(":")
        if kind != "jobs" or not number.isdecimal() or len(number) > 18:
            raise ValueError(text)
    except (binascii.Error, ValueError):
        detail = f"query parameter 'cursor': got {cursor[:80]!r}; hand back a next_cursor as it is, or leave it out"
        raise Problem(422, "Unknown cursor", detail) from None
    return int(number)
