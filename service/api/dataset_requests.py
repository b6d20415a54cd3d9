"""Read and check the requests that add data sets."""

from typing import Annotated, Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError

from pipelines.base.errors import ConfigError
from pipelines.base.names import Name
from pipelines.data.drafting.source_document import document_of_sources
from service.api.limits import StrictRequest, strict_json
from service.api.multipart import FormStream, unusable_form
from service.api.uploads import FILE_FIELD
from service.rest.dataset_schemas import FolderRequest
from service.rest.problems import Problem, invalid_values
from service.rest.schemas import ProblemField

T = TypeVar("T", bound=BaseModel)

BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["name", FILE_FIELD],
                "properties": {
                    "name": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"},
                    "sha256": {
                        "type": "string",
                        "pattern": "^[0-9a-f]{64}$",
                        "description": "checksum of the archive; the upload is refused if it differs",
                    },
                    "sources": {"type": "string", "description": "the section `data.sources` of a document, as JSON"},
                    FILE_FIELD: {"type": "string", "format": "binary", "description": "a zip, tar or tar.gz file"},
                },
            }
        },
        "application/json": {"schema": FolderRequest.model_json_schema(ref_template="#/components/schemas/{model}")},
    },
}
"""Description of the body of an upload in the OpenAPI document."""


class UploadForm(BaseModel):
    """The small fields of an upload."""

    name: Name
    sha256: Annotated[str | None, Field(pattern="^[0-9a-f]{64}$")] = None
    sources: dict[str, Any] | None = None


def form_of(request: Request) -> FormStream:
    """Return the form of a request, whose body was not read."""
    content_type = request.headers.get("content-type", "")
    max_bytes = {"name": 256, "sha256": 64, "sources": request.app.state.settings.max_json_bytes}
    return FormStream(content_type, FILE_FIELD, max_bytes)


def fields_of(form: FormStream, archive_sha256: str) -> UploadForm:
    """Return the checked fields of a form that was read; raises Problem 422 or
    RequestValidationError."""
    given: dict[str, Any] = dict(form.texts)
    if "sources" in given:
        given["sources"] = strict_field("sources", given["sources"])
    fields = _validated(UploadForm, given)
    _check_sources(fields.sources)
    require_checksum(fields.sha256, archive_sha256)
    return fields


def strict_field(name: str, text: str) -> Any:
    """Return the JSON value of a field; raises Problem 422 if it is not strict JSON."""
    try:
        return strict_json(text.encode())
    except Problem as problem:
        raise unusable_form(f"/{name}", str(problem.detail).replace("the body", "the field", 1)) from None


def require_checksum(given: str | None, archive_sha256: str) -> None:
    """Raise Problem 422 if a client has given another checksum than that of the archive."""
    if given is not None and given != archive_sha256:
        detail = f"got {given}, but the archive has {archive_sha256}; upload the archive again"
        raise unusable_form("/sha256", detail)


async def folder_request_of(request: Request) -> FolderRequest:
    """Return the checked JSON body of a request; raises Problem 400 or 413, or RequestValidationError."""
    given = _validated(FolderRequest, await StrictRequest(request.scope, request.receive).json())
    _check_sources(given.sources)
    return given


def _validated(model: type[T], given: Any) -> T:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in errors]) from None


def _check_sources(sources: dict[str, Any] | None) -> None:
    if sources is None:
        return
    try:
        document_of_sources(sources)
    except ConfigError as error:
        details = (str(problem).removeprefix("data.") for problem in error.problems)
        fields = (ProblemField(pointer="/sources", detail=detail) for detail in details)
        raise invalid_values("The sources are invalid", fields) from None
