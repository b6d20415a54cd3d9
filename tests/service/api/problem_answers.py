"""Checks of responses that are problems."""

import httpx2


def is_problem(answer: httpx2.Response, status: int) -> bool:
    """Return whether a response is an RFC 9457 problem with a status."""
    return (
        answer.status_code == status
        and answer.headers["content-type"] == "application/problem+json"
        and answer.json()["status"] == status
    )
