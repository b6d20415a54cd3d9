"""What a request is refused with: RFC 9457 problems, for every error, the framework's too."""

import http
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import Response

from service.jobs.errors import InvalidJob, JobError, NotOver
from service.rest.schemas import ProblemDetails, ProblemField
from service.store.errors import AlreadyEnded, KeyReused, NotEnded, NotFound, NotQueued, StoreError, StoreUnavailable

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

REFUSALS: dict[type[StoreError | JobError], tuple[int, str]] = {
    NotFound: (404, "No such job"),
    KeyReused: (422, "Idempotency key reused"),
    AlreadyEnded: (409, "Already ended"),
    NotQueued: (409, "Not queued"),
    NotEnded: (409, "Not ended"),
    NotOver: (409, "Not ended"),
}
"""Status and title of the answers to refusals of the store and of the use cases of jobs."""


class Problem(HTTPException):
    """A request that is refused, and why."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        errors: Sequence[ProblemField] = (),
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, dict(headers) if headers else None)
        self.title = title
        self.errors = list(errors)


def phrase(status: int) -> str:
    """Return what a status is called, such as `Not Found`."""
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def problem_response(
    status: int,
    title: str,
    detail: str,
    errors: Iterable[ProblemField] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the answer that tells a problem."""
    body = ProblemDetails(title=title, status=status, detail=detail, errors=list(errors))
    return Response(body.model_dump_json(), status, headers, MEDIA_TYPE)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what the documentation of a route says of its problems, for its argument `responses`."""
    return {status: {"model": ProblemDetails, "description": phrase(status)} for status in statuses}


def things(number: int) -> str:
    """Return how many things are wrong, up to the word `wrong`."""
    return "1 thing is" if number == 1 else f"{number} things are"


def pointer(parts: Iterable[str | int]) -> str:
    """Return the RFC 6901 pointer of a place in a JSON document."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def add_handlers(app: FastAPI) -> None:
    """Let every error of the application be told as a problem."""
    app.add_exception_handler(StarletteHTTPException, _tell_http)
    app.add_exception_handler(RequestValidationError, _tell_validation)
    for kind in REFUSALS:
        app.add_exception_handler(kind, _tell_refusal)
    app.add_exception_handler(InvalidJob, _tell_invalid_job)
    app.add_exception_handler(StoreUnavailable, _tell_database)
    app.add_exception_handler(Exception, _tell_internal)


async def _tell_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    if isinstance(error, Problem):
        return problem_response(error.status_code, error.title, error.detail, error.errors, error.headers)
    detail = str(error.detail)
    if error.status_code == http.HTTPStatus.NOT_FOUND:
        detail = f"there is nothing at {request.url.path}; /openapi.json tells what there is"
    if error.status_code == http.HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "none")
        detail = f"{request.method} is not for {request.url.path}; allowed here: {allowed}"
    return problem_response(error.status_code, phrase(error.status_code), detail, headers=error.headers)


async def _tell_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [_field(details) for details in error.errors()]
    return problem_response(422, "The request is not valid", f"{things(len(errors))} wrong, see errors", errors)


def _field(details: Mapping[str, Any]) -> ProblemField:
    where, *path = details["loc"]
    message = _message(details)
    if where == "body":
        return ProblemField(pointer=pointer(path), detail=message)
    return ProblemField(pointer="", detail=f"{where} parameter {'.'.join(map(str, path))!r}: {message}")


def _message(details: Mapping[str, Any]) -> str:
    if details["type"] == "missing":
        return "missing; add it"
    if details["type"] == "extra_forbidden":
        return "unknown key; leave it out"
    shown = repr(details["input"])
    text = str(details["msg"])
    return f"got {shown if len(shown) <= 80 else shown[:77] + '...'}; {text[0].lower()}{text[1:]}"


async def _tell_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, StoreError | JobError)
    status, title = REFUSALS[type(error)]
    return problem_response(status, title, str(error))


async def _tell_invalid_job(request: Request, error: Exception) -> Response:
    assert isinstance(error, InvalidJob)
    errors = [ProblemField(pointer=pointer(problem.path), detail=problem.message) for problem in error.problems]
    return problem_response(422, "The job is not valid", f"{things(len(errors))} wrong, see errors", errors)


async def _tell_database(request: Request, error: Exception) -> Response:
    """Nothing was written, so the client may send the request again."""
    logger.error("%s %s: %s", request.method, request.url.path, error.__cause__ or error)
    detail = f"{error}; nothing was changed, send the request again later"
    return problem_response(503, "The database does not answer", detail, headers={"Retry-After": "5"})


async def _tell_internal(request: Request, error: Exception) -> Response:
    """The server's log has the traceback; the client learns nothing of what is inside."""
    return problem_response(
        500,
        "Internal error",
        "the server failed at this request, and nothing is wrong with it; the server's log says why",
    )
