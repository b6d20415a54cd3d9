"""Rendering of pages, with their headers, and of the pages of problems."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from service.rest.limited_request import LimitedRequest
from service.rest.problems import MEDIA_TYPE, details_of, validation_problem
from service.rest.schemas import ProblemDetails
from service.web.calls import RestProblem
from service.web.session import is_https, new_session, session_of, set_session, token_of
from service.web.templating import TEMPLATES

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every page. Only files of this server are loaded, and nothing in a page itself is run."""


async def render(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page.

    It is rendered in a thread: a long document takes seconds, in which the event loop must answer other requests.

    Args:
        template: file in `templates`.
        values: variables of the template.
    """
    session = session_of(request.headers)
    started = session or new_session()
    frame = {
        "path": request.url.path,
        "query": request.url.query,
        "token": token_of(started),
        "principal": getattr(request.state, "principal", None),
        "now": datetime.now(UTC).isoformat(),
    }
    content = await asyncio.to_thread(TEMPLATES.get_template(template).render, **frame, **values)
    response = HTMLResponse(content, status, HEADERS)
    if session is None:
        set_session(response, started, is_secure=is_https(request.url.scheme, request.headers))
    return response


class PageRoute(APIRoute):
    """A route of a page: a problem of its REST requests, or of its own parameters, becomes a page too.

    Forms are limited as JSON bodies are: the one that asks for a key accepts requests of everyone.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def with_problem_page(request: Request) -> Response:
            try:
                return await handler(LimitedRequest(request.scope, request.receive))
            except RestProblem as error:
                return await render_problem(request, error.problem)
            except HTTPException as error:
                response = await render_problem(request, details_of(error))
                response.headers.update(error.headers or {})
                return response
            except RequestValidationError as error:
                return await render_problem(request, details_of(validation_problem(error)))

        return with_problem_page


async def render_problem(request: Request, problem: ProblemDetails) -> Response:
    """Return the page of a problem; requests of htmx get the problem only."""
    is_form = request.headers.get("hx-target") is not None and request.method != "GET"
    if is_form:
        # htmx shows only responses without an error; the part says what is wrong.
        return await render(request, "parts/problem.html", problem=problem)
    if request.headers.get("hx-request"):
        # A part that updates stays as it is; app.js shows the problem above it.
        return Response(problem.model_dump_json(), problem.status, HEADERS, MEDIA_TYPE)
    return await render(request, "problem.html", problem.status, problem=problem)
