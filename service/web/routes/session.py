"""Signing in with an API key, and out."""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import HTMLResponse, Response

from service.web.page import PageRoute, render
from service.web.session import end_session, is_https, set_session

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/login")
async def get_login(request: Request, next: Annotated[str, Query(max_length=2000)] = "/") -> HTMLResponse:
    """Return the page that asks for a key."""
    return await render(request, "login.html", next=_own_path(next), problem=None)


@router.post("/login")
async def start_session(
    request: Request, key: Annotated[str, Form(max_length=500)], next: Annotated[str, Form(max_length=2000)] = "/"
) -> Response:
    """Keep a key in the session cookie, if it is valid."""
    problem = await request.app.state.authenticator.problem_of_key(key.strip())
    if problem is not None:
        return await render(request, "login.html", 200, next=_own_path(next), problem=problem)
    response = Response(status_code=204, headers={"HX-Redirect": _own_path(next)})
    set_session(response, key.strip(), is_secure=is_https(request.url.scheme, request.headers))
    return response


@router.delete("/login")
async def end(request: Request) -> Response:
    """Forget the key."""
    response = Response(status_code=204, headers={"HX-Redirect": "/login"})
    end_session(response)
    return response


def _own_path(path: str) -> str:
    """Return a path of this server; `/` for anything else, such as the address of another one.

    Browsers remove tabs and line breaks from an address, so that `/`, a tab and `/example.com` lead to another server.
    """
    is_text = path.isascii() and path.isprintable()  # browsers send all other characters encoded
    return path if is_text and path.startswith("/") and not path.startswith(("//", "/\\")) else "/"
