"""Entity tags: a client that has the current version gets 304 instead of the content."""

import hashlib

from fastapi import Request
from starlette.responses import Response


def tag_of(content: bytes) -> str:
    """Return the entity tag of a response body."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def is_known(request: Request, tag: str) -> bool:
    """Return whether `If-None-Match` shows that the client has the version that `tag` names."""
    named = request.headers.get("if-none-match", "")
    return named.strip() == "*" or tag in [name.strip().removeprefix("W/") for name in named.split(",")]


def tagged(request: Request, content: bytes, media_type: str = "application/json") -> Response:
    """Return the response, or 304 if the client has this version already."""
    headers = {"ETag": tag_of(content), "Cache-Control": "no-cache"}
    if is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=media_type)
