"""The OpenAPI document."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from service.api.thread_pools import FileRoute

router = APIRouter(include_in_schema=False, route_class=FileRoute)


@router.get("/openapi.json")
def get_openapi(request: Request) -> JSONResponse:
    """Return the document, which takes a moment to generate."""
    return JSONResponse(request.app.openapi())
