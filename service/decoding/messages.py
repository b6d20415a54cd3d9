"""The messages between a decoding process and the process that uses it. Torch-free.

The request is a pickle, since it comes from a trusted process. The answer is JSON, since untrusted bytes may have taken
control of the process that sends it. The pixels are in a file in memory that both processes have open.
"""

import json
import pickle
import struct
from dataclasses import asdict, dataclass, field
from typing import Any

from pipelines.base.errors import DataError, FieldProblem
from pipelines.data.decoding.opening import TooManyPixels, UnknownFormat
from pipelines.data.source_images import NewImageReader

READY = b"r"
"""Sent by a decoding process once, when it can receive requests."""
REQUEST_HEAD = struct.Struct("!IQ")
"""Sizes of the order and of the image."""
ANSWER_HEAD = struct.Struct("!I")
MAX_ANSWER_BYTES = 1 << 20

_ERRORS: dict[str, type[DataError]] = {kind.__name__: kind for kind in (DataError, TooManyPixels, UnknownFormat)}


@dataclass(frozen=True)
class DecodingOrder:
    """A request to read an image: as a model expects it, with at most `max_pixels`, reduced to `max_side`."""

    reader: NewImageReader
    max_pixels: int
    max_side: int | None = None

    def to_bytes(self) -> bytes:
        return pickle.dumps(self)

    @staticmethod
    def from_bytes(data: bytes) -> "DecodingOrder":
        order = pickle.loads(data)
        assert isinstance(order, DecodingOrder)
        return order


@dataclass(frozen=True)
class DecodingAnswer:
    """The result for an image.

    Attributes:
        height: in pixels; 0 if the image cannot be read.
        width: likewise.
        warnings: about the file.
        error: name of the class of the error, or None.
        message: of the error.
        is_last: whether the process ends now, to give back the memory of a large image.
    """

    height: int = 0
    width: int = 0
    warnings: list[str] = field(default_factory=list)
    error: str | None = None
    message: str = ""
    is_last: bool = False

    @classmethod
    def of_error(cls, error: DataError, *, is_last: bool) -> "DecodingAnswer":
        """Return the answer for an image that cannot be read."""
        return cls(error=type(error).__name__, message=error.problems[0].message, is_last=is_last)

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "DecodingAnswer":
        """Return the answer; raises ValueError if it is not one."""
        found: Any = json.loads(data)
        if not isinstance(found, dict) or found.keys() != cls.__dataclass_fields__.keys():
            raise ValueError("not an answer of a decoding process")
        answer = cls(**found)
        numbers_are_valid = isinstance(answer.height, int) and isinstance(answer.width, int)
        if not numbers_are_valid or min(answer.height, answer.width) < (answer.error is None):
            raise ValueError("not the size of an image")
        return answer

    def raise_error(self) -> None:
        """Raise the error, if there is one."""
        if self.error is not None:
            raise _ERRORS.get(self.error, DataError)(FieldProblem("image", str(self.message)))
