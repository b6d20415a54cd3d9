"""Error responses: every error, including those of the framework, becomes an RFC 9457 problem."""

import http
import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import Response
from starlette.routing import compile_path

from pipelines.base.errors import ModelFilesUnavailable, RegistryError
from service.datasets.errors import DatasetError, FolderInvalid
from service.disk_space import DiskAlmostFull
from service.jobs.errors import InvalidJob, JobError, NotOver
from service.rest.schemas import ProblemDetails, ProblemField
from service.storage.base import ArchiveDamaged, ArchiveMissing, StorageError, StorageFull, StorageUnavailable
from service.store.errors import (
    AlreadyEnded,
    DatasetBeingDeleted,
    DatasetInUse,
    DatasetNotFound,
    KeyReused,
    KeyUnknown,
    NotEnded,
    NotFound,
    NotQueued,
    OutcomeUnknown,
    QueueLimit,
    QuotaExceeded,
    StoreError,
    StoreFull,
    StoreUnavailable,
    SweepEnded,
    SweepNotEnded,
    SweepNotFound,
)

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

STATUSES: dict[type[StoreError | JobError | DatasetError | StorageError], tuple[int, str]] = {
    NotFound: (404, "Job not found"),
    KeyReused: (422, "Idempotency key already used"),
    AlreadyEnded: (409, "Job has already ended"),
    NotQueued: (409, "Job is not queued"),
    NotEnded: (409, "Job has not ended"),
    NotOver: (409, "Job has not ended"),
    DatasetNotFound: (404, "Data set not found"),
    DatasetBeingDeleted: (409, "Data set is being deleted"),
    DatasetInUse: (409, "Data set is needed"),
    QuotaExceeded: (413, "Quota exceeded"),
    FolderInvalid: (422, "The folder is invalid"),
    ArchiveMissing: (500, "The archive is missing"),
    ArchiveDamaged: (500, "The archive is damaged"),
    StorageUnavailable: (503, "The storage is unavailable"),
    StorageFull: (507, "The storage is full"),
    QueueLimit: (429, "Too many queued jobs"),
    KeyUnknown: (404, "Key not found"),
    SweepNotFound: (404, "Sweep not found"),
    SweepEnded: (409, "Sweep has already ended"),
    SweepNotEnded: (409, "Sweep has not ended"),
}
"""Status and title for errors of the store, of the storage, and of the use cases."""

MAX_ERRORS = 100
"""Number of invalid values that a problem lists; a body of 1 MiB can have a hundred thousand."""

RETRY_AFTER = {503: {"Retry-After": "5"}}
"""Headers of problems that may disappear in a moment, by status."""


class Problem(HTTPException):
    """Raised by routes to respond with a problem."""

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
    """Return the name of a status, such as `Not Found`."""
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
    """Return the response for a problem."""
    body = ProblemDetails(title=title, status=status, detail=detail, errors=list(errors))
    return Response(body.model_dump_json(), status, headers, MEDIA_TYPE)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the value of a route's argument `responses`, which documents its problems."""
    return {status: {"model": ProblemDetails, "description": phrase(status)} for status in statuses}


def invalid_values(title: str, errors: Iterable[ProblemField]) -> "Problem":
    """Return a problem that lists invalid values of a request one by one, at most `MAX_ERRORS` of them."""
    listed = list(islice(errors, MAX_ERRORS + 1))
    if len(listed) > MAX_ERRORS:
        detail = f"more than {MAX_ERRORS} values are invalid, see the first ones in errors"
    elif len(listed) == 1:
        detail = "1 value is invalid, see errors"
    else:
        detail = f"{len(listed)} values are invalid, see errors"
    return Problem(422, title, detail, listed[:MAX_ERRORS])


def pointer(parts: Iterable[str | int]) -> str:
    """Return the RFC 6901 pointer of a path in a JSON document."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def add_handlers(app: FastAPI) -> None:
    """Make the application respond to every error with a problem."""
    app.add_exception_handler(StarletteHTTPException, _http_problem)
    app.add_exception_handler(RequestValidationError, _validation_problem)
    for kind in STATUSES:
        app.add_exception_handler(kind, _state_problem)
    app.add_exception_handler(InvalidJob, _invalid_job_problem)
    app.add_exception_handler(StoreUnavailable, _database_problem)
    app.add_exception_handler(DiskAlmostFull, _disk_problem)
    app.add_exception_handler(RegistryError, _registry_problem)
    app.add_exception_handler(ModelFilesUnavailable, _files_problem)
    app.add_exception_handler(Exception, _internal_problem)


async def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    if isinstance(error, Problem):
        return _response_of(error)
    detail = str(error.detail)
    if error.status_code == http.HTTPStatus.NOT_FOUND:
        detail = f"{request.url.path} does not exist; /docs lists all paths"
    headers = error.headers
    if error.status_code == http.HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = _methods(request) or (error.headers or {}).get("Allow", "none")
        headers = {**(headers or {}), "Allow": allowed}
        detail = f"{request.url.path} does not support {request.method}; it supports {allowed}"
    return problem_response(error.status_code, phrase(error.status_code), detail, headers=headers)


def _methods(request: Request) -> str:
    """Return the documented methods of a path, of which the framework names those of one route."""
    paths: dict[str, dict[str, Any]] = request.app.openapi()["paths"]
    found = [methods for template, methods in paths.items() if compile_path(template)[0].match(request.url.path)]
    return ", ".join(sorted({method.upper() for methods in found for method in methods}))


def details_of(error: StarletteHTTPException) -> ProblemDetails:
    """Return the content of the response for an error."""
    title, errors = getattr(error, "title", phrase(error.status_code)), getattr(error, "errors", [])
    return ProblemDetails(title=title, status=error.status_code, detail=str(error.detail), errors=errors)


def _response_of(problem: Problem) -> Response:
    return problem_response(problem.status_code, problem.title, problem.detail, problem.errors, problem.headers)


async def _validation_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _response_of(validation_problem(error))


def validation_problem(error: RequestValidationError) -> Problem:
    """Return the problem of a request whose parameters or body are invalid."""
    return invalid_values("The request is invalid", map(_field, error.errors()))


def _field(details: Mapping[str, Any]) -> ProblemField:
    where, *path = details["loc"]
    message = _message(details)
    if where == "body":
        return ProblemField(pointer=pointer(path), detail=message)
    # The values of a repeated parameter have indexes, which its client does not write.
    return ProblemField(pointer="", detail=f"{where} parameter {path[0]!r}: {message}")


def _message(details: Mapping[str, Any]) -> str:
    if details["type"] == "missing":
        return "missing; add it"
    if details["type"] == "extra_forbidden":
        return "unknown key; remove it"
    if details["type"] in ("unknown_parameter", "repeated_parameter"):
        return str(details["msg"])
    if details["type"] == "value_error":
        return str(details["ctx"]["error"])
    shown = repr(details["input"])
    text = str(details["msg"])
    return f"got {shown if len(shown) <= 80 else shown[:77] + '...'}; {text[0].lower()}{text[1:]}"


async def _state_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, StoreError | JobError | DatasetError | StorageError)
    status, title = STATUSES[type(error)]
    if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("%s %s: %s", request.method, request.url.path, error)
    return problem_response(status, title, str(error), headers=RETRY_AFTER.get(status))


async def _invalid_job_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, InvalidJob)
    errors = (ProblemField(pointer=pointer(problem.path), detail=problem.message) for problem in error.problems)
    return _response_of(invalid_values("The job is invalid", errors))


async def _database_problem(request: Request, error: Exception) -> Response:
    return database_problem(request.method, request.url.path, error)


def database_problem(method: str, path: str, error: Exception) -> Response:
    """Return a 503, or a 507 for a full disk.

    Nothing was written, so the client may send the request again, unless the error says otherwise.
    """
    logger.error("%s %s: %s", method, path, error.__cause__ or error)
    if isinstance(error, StoreFull):
        detail = f"{error}; nothing was changed. Delete jobs or data sets, or let the operator free some space"
        return problem_response(507, "The disk of the database is full", detail)
    is_unknown = isinstance(error, OutcomeUnknown)
    detail = str(error) if is_unknown else f"{error}; nothing was changed, send the request again later"
    return problem_response(503, "The database is unavailable", detail, headers={"Retry-After": "5"})


async def _disk_problem(request: Request, error: Exception) -> Response:
    # The body of an upload stays unread, so the connection cannot carry another request.
    return problem_response(507, "The disk is almost full", str(error), headers={"Connection": "close"})


async def _files_problem(request: Request, error: Exception) -> Response:
    return problem_response(410, "The files of the model are missing", str(error))


async def _registry_problem(request: Request, error: Exception) -> Response:
    return problem_response(503, "The model registry does not answer", str(error), headers={"Retry-After": "5"})


async def _internal_problem(request: Request, error: Exception) -> Response:
    return internal_problem()


def internal_problem() -> Response:
    """Return a problem without details: the traceback is in the server log only."""
    return problem_response(
        500,
        "Internal error",
        "the server failed to process the request; see the server log",
    )
