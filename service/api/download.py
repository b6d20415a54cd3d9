"""Files of run folders as downloads, with checksums, and what the OpenAPI document says about them."""

from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.responses import Response

from service.api.artifacts import content_disposition, repr_digest
from service.api.file_digests import sha256_of
from service.api.file_response import file_response, open_file

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
    """Return a file, or the requested range of it, with its checksum; see `file_response`.

    The file is opened once, so that size, checksum and content belong together even if a job replaces it meanwhile.

    Args:
        varies: whether the header `Accept` has chosen the file.
    """
    file = open_file(path)
    digest = sha256_of(file)
    headers = {
        "ETag": f'"{digest.hex()[:32]}"',
        "Repr-Digest": repr_digest(digest),
        "Cache-Control": "no-cache",
        "Content-Disposition": content_disposition(path),
        "X-Content-Type-Options": "nosniff",
        **({"Vary": "Accept"} if varies else {}),
    }
    return file_response(request, file, headers, media_type)
