"""The OpenAPI document, in a form that client generators understand."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.rest.problems import MEDIA_TYPE, phrase

PROBLEM = {"$ref": "#/components/schemas/ProblemDetails"}
EVERYWHERE = (400, 408, 431, 500)
"""Statuses that any request may get: for an unknown host, slow or long headers, and for a bug in the server."""
WITH_BODY = (403, 413, 415, 422)
WITH_KEY = (401, 403, 429, 503)
"""Statuses of operations that need a key: also without a database, which has the keys."""
WITH_CHANGE = (507,)
"""Statuses of operations that may change something: for a full disk."""


def describe(app: FastAPI) -> None:
    """Make `app.openapi()` list problems with their media type, including those that routes do not declare."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            for path, methods in document["paths"].items():
                for method, operation in methods.items():
                    _complete(operation, method, path)
            schemas = document["components"]["schemas"]
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(operation: dict[str, Any], method: str, path: str) -> None:
    responses = operation["responses"]
    statuses = [*EVERYWHERE, *(WITH_KEY if "security" in operation else ())]
    if method != "get":
        statuses += WITH_CHANGE
    if "requestBody" in operation:
        statuses += WITH_BODY
    elif path.startswith("/v1/"):
        # An unknown query parameter is possible where no parameter is declared, too.
        statuses.append(422)
    for status in statuses:
        responses.setdefault(str(status), {})
    for status, response in responses.items():
        contents = [content.get("schema") for content in response.get("content", {}).values()]
        if status.startswith(("4", "5")) and (not contents or contents[0] == PROBLEM or status == "422"):
            response["description"] = response.get("description") or phrase(int(status))
            response["content"] = {MEDIA_TYPE: {"schema": PROBLEM}}
    operation["responses"] = dict(sorted(responses.items()))
