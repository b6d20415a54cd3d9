"""Read requests that upload images together with the options of their batch prediction."""

import zipfile
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.datastructures import Headers
from starlette.routing import Match
from starlette.types import Scope

from pipelines.base.paths import IMAGE_SUFFIXES
from service.api.content_negotiation import media_type_of
from service.api.dataset_requests import require_checksum, strict_field
from service.api.multipart import FormStream, file_hint, unknown_field, unusable_form
from service.api.thread_pools import PooledRoute
from service.api.uploads import FILE_FIELD
from service.datasets.errors import ArchiveInvalid
from service.datasets.extraction import safe_name
from service.rest.model_schemas import BatchPredictionRequest
from service.rest.problems import Problem
from service.settings import Settings

IMAGE_FIELD = "image"
OPTIONS_FIELD = "options"

BODY = {
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "description": "an archive, or single images; nothing else is needed for the champion's predictions",
                "properties": {
                    OPTIONS_FIELD: {
                        "type": "string",
                        "description": "the fields of BatchPredictionRequest except `dataset`, as JSON; `folder` is a "
                        "folder in the archive",
                        "example": '{"threshold": 0.5, "classes": ["car"], "on_error": "skip"}',
                    },
                    "sha256": {
                        "type": "string",
                        "pattern": "^[0-9a-f]{64}$",
                        "description": "checksum of the archive; the upload is refused if it differs",
                    },
                    FILE_FIELD: {"type": "string", "format": "binary", "description": "a zip, tar or tar.gz file"},
                    IMAGE_FIELD: {
                        "type": "array",
                        "items": {"type": "string", "format": "binary"},
                        "description": "image files with their names, instead of an archive",
                    },
                },
            }
        }
    }
}
"""Description of the form in the OpenAPI document."""


class FormRoute(PooledRoute):
    """A route that answers only requests with a form; another route answers those with JSON on the same path."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return no match for a request without a form."""
        match, child = super().matches(scope)
        content_type = Headers(scope=scope).get("content-type", "")
        if match is not Match.NONE and media_type_of(content_type) != "multipart/form-data":
            return Match.NONE, {}
        return match, child


class ImagesForm(FormStream):
    """A form with an archive, or with image files, from which it makes one."""

    def __init__(self, content_type: str, settings: Settings) -> None:
        super().__init__(content_type, FILE_FIELD, {OPTIONS_FIELD: settings.max_json_bytes, "sha256": 64})
        self._max_images = settings.max_upload_images
        self._names: set[str] = set()
        self._archive: zipfile.ZipFile | None = None
        self._image: Any = None

    def close(self) -> bytes:
        """Check the form, and return the end of the archive that was made of images."""
        if self._archive is not None:
            self.has_file = True
            self._archive.close()
        self.require_end()
        if not self.has_file:
            detail = (
                f"images are missing; add files as fields {IMAGE_FIELD!r}, or an archive as the field {FILE_FIELD!r}"
            )
            raise unusable_form(f"/{IMAGE_FIELD}", detail)
        return super().close()

    def _begin_part(self, name: str) -> None:
        if name != IMAGE_FIELD:
            if name not in self.fields:
                raise unknown_field(name, [*self.fields, IMAGE_FIELD])
            if name == FILE_FIELD and self._archive is not None:
                raise _both()
            super()._begin_part(name)
            return
        if self.has_file:
            raise _both()
        if len(self._names) == self._max_images:
            detail = f"the form has more than {self._max_images} images; pack them into an archive"
            raise unusable_form(f"/{IMAGE_FIELD}", f"{detail} (PYRAMIDION_MAX_UPLOAD_IMAGES sets the limit)")
        file_name = _checked_name(self.file_name)
        if file_name in self._names:
            raise unusable_form(f"/{IMAGE_FIELD}", f"got the file name {file_name!r} twice; name each file differently")
        self._names.add(file_name)
        self._field = name
        if self._archive is None:
            self._archive = _StreamedZip(_Sink(self._file_bytes), "w")
        self._image = self._archive.open(zipfile.ZipInfo(file_name), "w", force_zip64=True)

    def _take(self, content: bytes) -> None:
        if self._field == IMAGE_FIELD:
            self._image.write(content)
        else:
            super()._take(content)

    def _end_part(self) -> None:
        if self._field == IMAGE_FIELD:
            self._image.close()
        else:
            super()._end_part()


class _Sink:
    """A stream that cannot be sought, so that `zipfile` writes the size of each file after its content."""

    def __init__(self, content: bytearray) -> None:
        self._content = content

    def write(self, data: bytes, /) -> int:
        self._content += data
        return len(data)

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class _StreamedZip(zipfile.ZipFile):
    """An archive that may be dropped in the middle of a file, when a client leaves."""

    def __del__(self) -> None:
        """Do nothing: the base class fails here if a file is open."""


class UploadedBatch(BaseModel):
    """The small fields of the form."""

    options: BatchPredictionRequest = BatchPredictionRequest()
    sha256: Annotated[str | None, Field(pattern="^[0-9a-f]{64}$")] = None


def options_of(form: ImagesForm, archive_sha256: str) -> BatchPredictionRequest:
    """Return the options of a form that was read completely; raises Problem 422 or RequestValidationError."""
    given: dict[str, Any] = dict(form.texts)
    if OPTIONS_FIELD in given:
        given[OPTIONS_FIELD] = strict_field(OPTIONS_FIELD, given[OPTIONS_FIELD])
    try:
        fields = UploadedBatch.model_validate(given)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise RequestValidationError([{**detail, "loc": ("body", *detail["loc"])} for detail in details]) from None
    require_checksum(fields.sha256, archive_sha256)
    if fields.options.dataset is not None:
        detail = f"got {fields.options.dataset!r} with uploaded images; remove the data set, or send no images"
        raise unusable_form(f"/{OPTIONS_FIELD}/dataset", detail)
    return fields.options


def _checked_name(given: str | None) -> str:
    if given is None:
        raise unusable_form(f"/{IMAGE_FIELD}", f"has no file name; {file_hint(IMAGE_FIELD)}")
    detail = f"got the file name {given!r}; name each image file, with one of {', '.join(sorted(IMAGE_SUFFIXES))}"
    try:
        path = safe_name(given)
    except ArchiveInvalid as error:
        raise unusable_form(f"/{IMAGE_FIELD}", str(error)) from None
    if path is None or PurePosixPath(path).suffix.lower() not in IMAGE_SUFFIXES:
        raise unusable_form(f"/{IMAGE_FIELD}", detail)
    return str(path)


def _both() -> Problem:
    detail = f"got the fields {FILE_FIELD!r} and {IMAGE_FIELD!r}; send an archive or images"
    return unusable_form(f"/{IMAGE_FIELD}", detail)
