"""Pages: how they are rendered, with which headers, and what is shown instead if a request fails."""

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.responses import HTMLResponse, Response

from service.rest.problems import phrase
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


def render(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page.

    Args:
        template: file in `templates`.
        values: what it shows.
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
    content = TEMPLATES.get_template(template).render(**frame, **values)
    response = HTMLResponse(content, status, HEADERS)
    if session is None:
        set_session(response, started, is_secure=is_https(request.url.scheme, request.headers))
    return response


class PageRoute(APIRoute):
    """A route of a page: a problem of its REST requests, or of its own parameters, becomes a page too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def with_problem_page(request: Request) -> Response:
            try:
                return await handler(request)
            except RestProblem as error:
                return render_problem(request, error.problem)
            except HTTPException as error:
                title = getattr(error, "title", phrase(error.status_code))
                problem = ProblemDetails(title=title, status=error.status_code, detail=str(error.detail))
                return render_problem(request, problem)
            except RequestValidationError as error:
                detail = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors())
                return render_problem(
                    request, ProblemDetails(title="The address is invalid", status=422, detail=detail)
                )

        return with_problem_page


def render_problem(request: Request, problem: ProblemDetails) -> HTMLResponse:
    """Return the page of a problem; requests for a part of a page get the problem only."""
    is_part = request.headers.get("hx-target") is not None and request.method != "GET"
    template = "parts/problem.html" if is_part else "problem.html"
    # htmx shows only responses without an error; the part says what is wrong.
    return render(request, template, 200 if is_part else problem.status, problem=problem)
