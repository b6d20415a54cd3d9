"""The page that lists all requests of the REST API, made from its OpenAPI document; it works offline."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from service.web.calls import RestDep
from service.web.page import PageRoute, render

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/docs")
async def get_docs(request: Request, rest: RestDep) -> HTMLResponse:
    """Return the page."""
    document = await rest.get("/openapi.json")
    return await render(request, "docs.html", info=document["info"], tags=_by_tag(document))


def _by_tag(document: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the requests of each tag, with the facts that the page shows."""
    tags: dict[str, list[dict[str, Any]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tags.setdefault(operation["tags"][0], []).append(
                {
                    "method": method.upper(),
                    "path": path,
                    "text": operation.get("description") or operation["summary"],
                    "parameters": [one for one in operation.get("parameters", []) if one["in"] != "path"],
                    "body": _schemas(operation.get("requestBody", {})),
                    "responses": [
                        {"status": status, "description": one["description"], "schemas": _schemas(one)}
                        for status, one in operation["responses"].items()
                    ],
                }
            )
    return tags


def _schemas(part: dict[str, Any]) -> list[str]:
    """Return the media types of a body, each with the name of its schema if it has one."""
    return [
        f"{media_type} {content.get('schema', {}).get('$ref', '').rpartition('/')[2]}".strip()
        for media_type, content in part.get("content", {}).items()
    ]
