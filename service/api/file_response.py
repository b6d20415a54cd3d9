"""Files of run folders as responses, with checksums and ranges."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.responses import FileResponse, Response

from service.api.artifacts import repr_digest, sha256
from service.api.entity_tags import is_known

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
ANY_FILE: dict[str, Any] = {"application/octet-stream": BINARY, "*/*": {}}
"""Generated clients need a concrete type; the response has the type of the file."""
DIGEST = {"Repr-Digest": {"schema": {"type": "string"}, "description": "sha-256, RFC 9530"}}
PARTS: dict[int | str, dict[str, Any]] = {
    206: {"description": "The requested range", "content": ANY_FILE},
    304: {"description": "Unchanged"},
    416: {"description": "The range is outside the file"},
}


def file_response(request: Request, path: Path, media_type: str, more: Mapping[str, str] | None = None) -> Response:
    """Return a file, or the requested range of it, with its checksum and further headers."""
    digest = sha256(path)
    headers: Mapping[str, str] = {
        "ETag": f'"{digest.hex()[:32]}"',
        "Repr-Digest": repr_digest(digest),
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
        **(more or {}),
    }
    if is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return FileResponse(path, headers=headers, media_type=media_type, filename=path.name)
