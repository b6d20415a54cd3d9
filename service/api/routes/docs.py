"""A page that lists all requests, made from the OpenAPI document; it works offline and without scripts."""

from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse

from service.api.thread_pools import FileRoute

router = APIRouter(include_in_schema=False, route_class=FileRoute)

HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h2 { margin-top: 2rem; text-transform: capitalize }
dt { margin-top: .8rem } dd { margin-left: 1.5rem } code { background: #f2f2f2; padding: .1rem .3rem }
.method { display: inline-block; width: 4.5rem; font-weight: bold; text-transform: uppercase }
"""


@router.get("/docs")
def get_docs(request: Request) -> HTMLResponse:
    """Return the page."""
    return HTMLResponse("".join(_page(request.app.openapi())), headers=HEADERS)


@router.get("/openapi.json")
def get_openapi(request: Request) -> JSONResponse:
    """Return the OpenAPI document, which takes a moment to generate."""
    return JSONResponse(request.app.openapi())


def _page(document: dict[str, Any]) -> Iterator[str]:
    info = document["info"]
    title = f"{escape(info['title'])} {escape(info['version'])}"
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    yield f"<h1>{title}</h1><p>{escape(info['description'])}</p>"
    yield (
        '<p><a href="/openapi.json">/openapi.json</a> has the schemas of all requests and responses; client generators '
        "read it.</p>"
    )
    for tag, operations in _by_tag(document).items():
        yield f"<h2>{escape(tag)}</h2><dl>"
        for method, path, operation in operations:
            yield f'<dt><span class="method">{method}</span><code>{escape(path)}</code></dt><dd>'
            yield escape(operation.get("description") or operation["summary"]).replace("\n", " ")
            yield from _parameters(operation)
            yield "</dd>"
        yield "</dl>"


def _by_tag(document: dict[str, Any]) -> dict[str, list[tuple[str, str, dict[str, Any]]]]:
    tags: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tags.setdefault(operation["tags"][0], []).append((method, path, operation))
    return tags


def _parameters(operation: dict[str, Any]) -> Iterator[str]:
    parameters = [parameter for parameter in operation.get("parameters", []) if parameter["in"] != "path"]
    if parameters:
        yield "<ul>"
        for parameter in parameters:
            description = parameter.get("description") or parameter["schema"].get("description") or ""
            yield f"<li><code>{escape(parameter['name'])}</code> ({parameter['in']}) {escape(description)}</li>"
        yield "</ul>"
