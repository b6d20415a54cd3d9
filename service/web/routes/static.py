"""The static files of the web page."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.rest.problems import Problem
from service.web.static_files import static_files

router = APIRouter(include_in_schema=False)


@router.get("/static/{path:path}")
async def get_static_file(path: str, request: Request) -> Response:
    """Return a file; browsers ask each time whether it has changed."""
    file = static_files().get(path)
    if file is None:
        raise Problem(404, "Not found", f"the web page has no file {path[:80]!r}")
    headers = {"Cache-Control": "no-cache", "ETag": file.etag, "X-Content-Type-Options": "nosniff"}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
