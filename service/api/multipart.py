"""Read a multipart body as a stream. Torch-free."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.message import Message

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from service.api.content_negotiation import media_type_of
from service.rest.problems import Problem
from service.rest.schemas import ProblemField

MAX_HEADER_BYTES = 4096
"""Maximum size of the headers of one part."""


class MultipartStream(ABC):
    """Parses the parts of a multipart body that is fed in chunks.

    Args:
        content_type: of the request.
        field: name of the field with the file, for messages.
    """

    def __init__(self, content_type: str, field: str) -> None:
        self._is_over = False
        self._header_name = self._header_value = b""
        self._disposition = ""
        with _valid_form():
            self._parser = MultipartParser(
                _boundary(content_type, field),
                {
                    "on_part_begin": self._begin_headers,
                    "on_header_field": self._take_header_name,
                    "on_header_value": self._take_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": lambda data, start, end: self._take(data[start:end]),
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )

    def write(self, chunk: bytes) -> None:
        """Parse a chunk of the body; raises Problem 422 if the form is invalid."""
        with _valid_form():
            self._parser.write(chunk)

    @property
    def file_name(self) -> str | None:
        """The name of the file of the current field, as the client gives it."""
        return _parameter("content-disposition", self._disposition, "filename")

    def require_end(self) -> None:
        """Raise Problem 422 if the body that was fed is incomplete."""
        if not self._is_over:
            raise unusable_form("", "the body ends before its last boundary; send it completely")

    @abstractmethod
    def _begin_part(self, name: str) -> None:
        """Start the field `name`; raises Problem 422 if it is not expected."""

    @abstractmethod
    def _take(self, content: bytes) -> None:
        """Take a piece of the current field; raises Problem if the field is too large."""

    @abstractmethod
    def _end_part(self) -> None:
        """End the current field; raises Problem 422 if its content is invalid."""

    def _begin_headers(self) -> None:
        self._disposition = ""

    def _take_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]
        self._limit_header()

    def _take_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]
        self._limit_header()

    def _limit_header(self) -> None:
        if len(self._header_name) + len(self._header_value) > MAX_HEADER_BYTES:
            raise unusable_form("", f"a header of a part has more than {MAX_HEADER_BYTES} bytes")

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value.decode("utf-8", "replace")
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        self._begin_part(_parameter("content-disposition", self._disposition, "name") or "")

    def _end(self) -> None:
        self._is_over = True


class FormStream(MultipartStream):
    """A form with one file, whose bytes are returned as they arrive, and small fields, which are kept.

    Args:
        content_type: of the request.
        file_field: name of the field with the file.
        text_fields: the other fields, with their maximum sizes in bytes.

    Attributes:
        fields: names of all fields that the form may have.
        texts: the fields that were read so far.
        has_file: whether the file's field has started.
        is_file_named: whether the file's field has a file name, without which it may be text.
    """

    def __init__(self, content_type: str, file_field: str, text_fields: dict[str, int]) -> None:
        super().__init__(content_type, file_field)
        self.fields = [file_field, *text_fields]
        self.texts: dict[str, str] = {}
        self.has_file = self.is_file_named = False
        self._file_field, self._text_fields = file_field, text_fields
        self._file_bytes = bytearray()
        self._field, self._text = "", bytearray()

    def feed(self, chunk: bytes) -> bytes:
        """Parse a chunk of the body, and return the bytes of the file in it; raises Problem 422."""
        self.write(chunk)
        return self._taken()

    def close(self) -> bytes:
        """Check the form after the whole body was fed, and return the end of the file; raises Problem 422 if it is
        incomplete."""
        self.require_end()
        if not self.has_file:
            name = self._file_field
            raise unusable_form(f"/{name}", f"missing; add the file as the form's field {name!r}")
        return self._taken()

    def _taken(self) -> bytes:
        taken = bytes(self._file_bytes)
        self._file_bytes.clear()
        return taken

    def _begin_part(self, name: str) -> None:
        if name not in self.fields:
            raise unknown_field(name, self.fields)
        if name in self.texts or (name == self._file_field and self.has_file):
            raise unusable_form(f"/{name}", "the field occurs twice; send it once")
        self._field = name
        self._text.clear()
        if name == self._file_field:
            self.has_file, self.is_file_named = True, self.file_name is not None

    def _take(self, content: bytes) -> None:
        if self._field == self._file_field:
            self._file_bytes += content
            return
        self._text += content
        if len(self._text) > (limit := self._text_fields[self._field]):
            raise unusable_form(f"/{self._field}", f"has more than {limit} bytes")

    def _end_part(self) -> None:
        if self._field != self._file_field:
            try:
                self.texts[self._field] = self._text.decode()
            except UnicodeDecodeError:
                raise unusable_form(f"/{self._field}", "is not UTF-8; send text") from None


def unknown_field(name: str, known: Sequence[str]) -> Problem:
    """Return the problem of a field that the form does not have."""
    shown = name[:40].replace("~", "~0").replace("/", "~1")
    fields = f"one field, {known[0]!r}" if len(known) == 1 else f"the fields {', '.join(known)}"
    return unusable_form(f"/{shown}", f"unknown field; the form may have {fields}")


def file_hint(field: str) -> str:
    """Return what a client should do that may have sent the name of a file instead of its content."""
    return f"send the content of the file (with curl: -F {field}=@FILE)"


def unusable_form(pointer: str, detail: str) -> Problem:
    """Return the problem of a form whose remaining body is not read."""
    where = pointer.removeprefix("/").replace("/", ".")
    return Problem(
        422,
        "The form is invalid",
        f"{where}: {detail}" if where else detail,
        [ProblemField(pointer=pointer, detail=detail)],
        headers={"Connection": "close"},
    )


@contextmanager
def _valid_form() -> Iterator[None]:
    try:
        yield
    except FormParserError as error:
        raise unusable_form("", f"the body is not valid multipart/form-data: {error}") from None


def _boundary(content_type: str, field: str) -> bytes:
    boundary = _parameter("content-type", content_type, "boundary")
    if media_type_of(content_type) != "multipart/form-data" or not boundary:
        form = f"multipart/form-data with a boundary and the field {field!r}"
        detail = f"got the content type {content_type[:80]!r}; send {form}"
        raise Problem(415, "Not a form", detail)
    try:
        return boundary.encode("latin-1")
    except UnicodeEncodeError:
        raise unusable_form("", "the boundary of the body is not ASCII") from None


def _parameter(header: str, text: str, parameter: str) -> str | None:
    """Return a parameter of a header, such as `name` of `form-data; name="archive"`."""
    message = Message()
    message[header] = text.replace("\r", " ").replace("\n", " ")
    found = message.get_param(parameter, header=header)
    return found if isinstance(found, str) else None
