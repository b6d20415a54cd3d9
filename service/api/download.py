"""Files of run folders as downloads, with checksums, and what the OpenAPI document says about them."""

from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.responses import Response

from service.api.artifacts import content_disposition, repr_digest, sha256
from service.api.entity_tags import is_known
from service.api.file_response import file_response
from service.api.thread_pools import ThreadPool, Work

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
ANY_FILE: dict[str, Any] = {"application/octet-stream": BINARY, "*/*": {}}
"""Generated clients need a concrete type; the response has the type of the file."""
DIGEST = {"Repr-Digest": {"schema": {"type": "string"}, "description": "sha-256, RFC 9530"}}
PARTS: dict[int | str, dict[str, Any]] = {
    206: {"description": "The requested range", "content": ANY_FILE},
    304: {"description": "Unchanged"},
    416: {"description": "The range is outside the file"},
}


def download(request: Request, path: Path, media_type: str, *, varies: bool = False) -> Response:
    """Return a file, or the requested range of it, with its checksum.

    Args:
        varies: whether the header `Accept` has chosen the file.
    """
    digest = sha256(path)
    headers = {
        "ETag": f'"{digest.hex()[:32]}"',
        "Repr-Digest": repr_digest(digest),
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
        **({"Vary": "Accept"} if varies else {}),
    }
    if is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    headers["Content-Disposition"] = content_disposition(path)
    streams: ThreadPool = request.app.state.pools[Work.STREAMS]
    return file_response(request.headers, path, headers, media_type, streams)
