"""Values of more than 8 bits per channel: how a file stores them, and their conversion to 8 bits. Torch-free."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.base.errors import DataError, FieldProblem

ValueRange = tuple[float, float]
"""The stored values of black and of white."""


@dataclass(frozen=True)
class Storage:
    """Storage format of the values of a channel. Files of plain 8 bits have none.

    Attributes:
        bits: per channel.
        is_float: whether the values are floating-point numbers.
        is_color: whether it has several channels; Pillow decodes the high bytes of such a file.
        is_inverted: whether low values are bright (the "WhiteIsZero" of a TIFF).
        has_own_range: whether the file declares its range (the "maxval" of a PGM), to which Pillow has scaled it.
    """

    bits: int
    is_float: bool = False
    is_color: bool = False
    is_inverted: bool = False
    has_own_range: bool = False

    def range_of(self, declared: ValueRange | None) -> ValueRange:
        """Return the range of values of a source that declares a range or none.

        That of the type is the default: 0..1 of floats, and of integers all bits, but at most 16.
        """
        if declared is not None and not self.has_own_range:
            return declared
        return (0, 1) if self.is_float else (0, 2 ** min(self.bits, 16) - 1)

    def __str__(self) -> str:
        return f"{self.bits}-bit {'floats' if self.is_float else 'integers'}"


@dataclass(frozen=True)
class StoredValues:
    """The smallest and the largest value of an image, and how they are stored."""

    storage: Storage
    low: float
    high: float

    def fit(self, value_range: ValueRange | None) -> bool:
        """Return whether all values are in the range of a source that declares `value_range`."""
        low, high = self.storage.range_of(value_range)
        return low <= self.low and self.high <= high


def value_span(values: np.ndarray, storage: Storage) -> StoredValues:
    """Return the smallest and the largest value; NaN and infinity count as themselves."""
    return StoredValues(storage, _plain(values.min()), _plain(values.max()))


def to_8_bits(
    values: np.ndarray, storage: Storage, value_range: ValueRange | None, name: str, field: str
) -> np.ndarray:
    """Return values as uint8, from 0 for the low end of their range to 255 for the high end.

    Integers are divided into 256 equal intervals: 0..65535 by 256, and 0..255 remain as they are. Floats are rounded.

    Args:
        values: of any shape.
        storage: how they are stored.
        value_range: that of the source; None is the default of the storage.
        name: of the image, for messages.
        field: of the document, which declares the range.

    Raises:
        DataError: a value is outside of the range.
    """
    low, high = storage.range_of(value_range)
    span = value_span(values, storage)
    if not span.fit(value_range):
        raise DataError(FieldProblem(name, out_of_range(span, value_range, field)))
    if storage.is_float:
        scaled = np.round((values - low) / (high - low) * 255)
    else:
        scaled = np.floor((values.astype(np.float64) - low) * 256 / (high - low + 1))
    pixels = scaled.astype(np.uint8)
    return 255 - pixels if storage.is_inverted else pixels


def out_of_range(span: StoredValues, value_range: ValueRange | None, field: str) -> str:
    """Return the message for values outside of their range, with the range to declare."""
    if not np.isfinite([span.low, span.high]).all():
        return "has values that are not finite (NaN or infinity); replace them and write the file again"
    allowed = span.storage.range_of(value_range)
    whose = f"{field} declares" if value_range else f"{span.storage} have by default"
    return (
        f"has values from {span.low:.10g} to {span.high:.10g}, but {whose} {shown_range(allowed)}; set {field} to the "
        f"range that the values of the whole source have, such as {shown_range(suggested_range(span))}"
    )


def suggested_range(span: StoredValues) -> ValueRange:
    """Return a range that includes all values: for integers the smallest of whole bits, for floats that of the values.

    A range of integers that starts far from 0 remains as it is: whole bits would leave most of it unused.
    """
    if span.storage.is_float:
        return min(0.0, span.low), span.high
    if span.low < 0:
        bits = max(int(-span.low - 1).bit_length(), int(span.high).bit_length() if span.high > 0 else 0)
        return -(2**bits), 2**bits - 1
    if span.low > span.high / 2:
        return span.low, max(span.high, span.low + 1)
    return 0, 2 ** max(1, int(span.high).bit_length()) - 1


def shown_range(value_range: ValueRange) -> str:
    """Return the range as a document has it."""
    return f"[{value_range[0]:.10g}, {value_range[1]:.10g}]"


def _plain(value: Any) -> float:
    # The shortest text of a float32, such as 0.1, is the value that users write and see.
    return float(str(value)) if isinstance(value, np.floating) else int(value)
