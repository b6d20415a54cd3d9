"""Requests as JSON, and responses as values or as the errors of `service.client.errors`."""

import base64
import hashlib
import json
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import ValidationError

from pipelines.base.errors import ConfigError, FieldProblem
from service.client.api_key import KEY_FILE_VARIABLE, KEY_VARIABLE
from service.client.errors import AccessDenied, Conflict, ServiceError
from service.rest.schemas import Answer, ProblemDetails, ProblemField

AnswerT = TypeVar("AnswerT", bound=Answer)

JSON_HEADERS = {"Content-Type": "application/json"}


def job_path(job_id: str) -> str:
    """Return the path of a job."""
    return f"/v1/jobs/{quote(job_id, safe='')}"


def json_body(request: Mapping[str, Any]) -> bytes:
    """Return the request as JSON; raises ConfigError for YAML values that JSON cannot represent."""
    try:
        return json.dumps(request, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ConfigError(FieldProblem("", f"the document cannot be sent as JSON: {error}")) from error


def read_answer(model: type[AnswerT], response: httpx2.Response) -> AnswerT:
    """Return the body of a response; raises ServiceError if it is not of this model."""
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise ServiceError(
            f"{response.url} did not return a {model.__name__}; is it a Pyramidion service of this version?"
        ) from error


def raise_for_problem(response: httpx2.Response) -> None:
    """Raise the error of a response, unless it is a success."""
    if response.is_success:
        return
    try:
        problem = ProblemDetails.model_validate_json(response.content)
    except ValidationError:
        raise ServiceError(
            f"{response.url} responded with status {response.status_code}; is it a Pyramidion service?"
        ) from None
    if problem.errors:
        raise ConfigError([FieldProblem(dotted_field(error), error.detail) for error in problem.errors])
    if problem.status in (HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
        raise ConfigError(FieldProblem("", problem.detail))
    if problem.status == HTTPStatus.UNAUTHORIZED:
        raise AccessDenied(
            f"{response.url.host} requires an API key: {problem.detail}; set {KEY_VARIABLE}, or {KEY_FILE_VARIABLE} to "
            "a file with the key"
        )
    kinds: dict[int, type[ServiceError]] = {HTTPStatus.CONFLICT: Conflict, HTTPStatus.FORBIDDEN: AccessDenied}
    raise kinds.get(problem.status, ServiceError)(problem.detail)


def require_digest(response: httpx2.Response, path: Path) -> None:
    """Raise ServiceError if a file that was received differs from the checksum of its response."""
    with path.open("rb") as file:
        digest = base64.b64encode(hashlib.file_digest(file, "sha256").digest()).decode()
    expected = response.headers.get("repr-digest")
    if expected is not None and expected != f"sha-256=:{digest}:":
        raise ServiceError(f"{response.url}: the file differs from its checksum; download it again")


def dotted_field(error: ProblemField) -> str:
    """Return the field of a pointer as a dotted name of the document, as `fit` prints it."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in error.pointer.split("/")[1:]]
    return ".".join(parts[1:] if parts[:1] == ["config"] else parts)
