"""Read a multipart body as a stream: small fields in memory, one file in chunks. Torch-free."""

from email.message import Message

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from service.rest.problems import Problem
from service.rest.schemas import ProblemField

MAX_HEADER_BYTES = 4096
"""Maximum size of the headers of one part."""


class FormStream:
    """Parses a form that is fed in chunks.

    Args:
        content_type: of the request.
        file_field: name of the field with the file.
        text_fields: the other fields, with their maximum sizes in bytes.

    Attributes:
        texts: the fields that were read so far.
        has_file: whether the file's field has started.
    """

    def __init__(self, content_type: str, file_field: str, text_fields: dict[str, int]) -> None:
        self.texts: dict[str, str] = {}
        self.has_file = False
        self._file_field, self._text_fields = file_field, text_fields
        self._file_bytes = bytearray()
        self._field, self._text = "", bytearray()
        self._is_over = False
        self._header_name = self._header_value = b""
        self._disposition = ""
        self._parser = MultipartParser(
            _boundary(content_type),
            {
                "on_part_begin": self._begin_part,
                "on_part_data": self._take,
                "on_part_end": self._end_part,
                "on_header_field": self._take_header_name,
                "on_header_value": self._take_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> bytes:
        """Parse a chunk of the body, and return the bytes of the file in it.

        Raises:
            Problem: 422, the form is invalid.
        """
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise unusable_form("", f"the body is not valid multipart/form-data: {error}") from None
        taken = bytes(self._file_bytes)
        self._file_bytes.clear()
        return taken

    def close(self) -> None:
        """Check the form after the whole body was fed; raises Problem 422 if it is incomplete."""
        if not self._is_over:
            raise unusable_form("", "the body ends before its last boundary; send it completely")
        if not self.has_file:
            name = self._file_field
            raise unusable_form(f"/{name}", f"missing; add the file as the form's field {name!r}")

    def _begin_part(self) -> None:
        self._disposition, self._field = "", ""
        self._text.clear()

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
        name = _parameter("content-disposition", self._disposition, "name") or ""
        if name != self._file_field and name not in self._text_fields:
            shown = name[:40].replace("~", "~0").replace("/", "~1")
            known = ", ".join([self._file_field, *self._text_fields])
            raise unusable_form(f"/{shown}", f"unknown field; the form has the fields {known}")
        if name in self.texts or (name == self._file_field and self.has_file):
            raise unusable_form(f"/{name}", "the field occurs twice; send it once")
        self._field = name
        self.has_file |= name == self._file_field

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._field == self._file_field:
            self._file_bytes += data[start:end]
            return
        self._text += data[start:end]
        if len(self._text) > (limit := self._text_fields[self._field]):
            raise unusable_form(f"/{self._field}", f"has more than {limit} bytes")

    def _end_part(self) -> None:
        if self._field and self._field != self._file_field:
            try:
                self.texts[self._field] = self._text.decode()
            except UnicodeDecodeError:
                raise unusable_form(f"/{self._field}", "is not UTF-8; send text") from None

    def _end(self) -> None:
        self._is_over = True


def unusable_form(pointer: str, detail: str) -> Problem:
    """Return the problem of a form whose remaining body is not read."""
    return Problem(
        422,
        "The form is invalid",
        detail,
        [ProblemField(pointer=pointer, detail=detail)],
        headers={"Connection": "close"},
    )


def _boundary(content_type: str) -> bytes:
    boundary = _parameter("content-type", content_type, "boundary")
    if not boundary:
        raise Problem(415, "Not a form", "the content type multipart/form-data needs a boundary")
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
