"""Answers with an entity tag: what a client has already is not sent again."""

import hashlib

from fastapi import Request
from starlette.responses import Response


def tag_of(content: bytes) -> str:
    """Return the entity tag of an answer."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def is_known(request: Request, tag: str) -> bool:
    """Whether the client says by `If-None-Match` that it has what `tag` names."""
    named = request.headers.get("if-none-match", "")
    return named.strip() == "*" or tag in [name.strip().removeprefix("W/") for name in named.split(",")]


def tagged(request: Request, content: bytes, media_type: str = "application/json") -> Response:
    """Return the answer, or 304 where the client has it."""
    headers = {"ETag": tag_of(content), "Cache-Control": "no-cache"}
    if is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=media_type)
