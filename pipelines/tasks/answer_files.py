"""Files with the answers of one task for many images, written image by image. Torch-free.

A batch prediction reads answers of any number of images from its journal, so that no format may need all of them in
memory, except arrays.
"""

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar

from pipelines.base.records import Category

AnswerJson = dict[str, Any]
"""A `TaskAnswer` as plain types."""


@dataclass(frozen=True)
class FileFormat:
    """Suffix and media type of a file."""

    suffix: str
    media_type: str


@dataclass(frozen=True)
class AnsweredImage:
    """An image that was predicted.

    Attributes:
        image_id: its position in the list of images, counted from 1.
        file_name: its path below the folder of the images.
    """

    image_id: int
    file_name: str
    width: int
    height: int


class AnswerFile(ABC):
    """One file. Call `add` for each image in order, and `close` at the end.

    Args:
        stream: the file; it is not closed.
        categories: of the task, in the order of the labels.
    """

    format: ClassVar[FileFormat]

    def __init__(self, stream: BinaryIO, categories: Sequence[Category]) -> None:
        self.stream = stream
        self.categories = categories

    @abstractmethod
    def add(self, image: AnsweredImage, answer: AnswerJson) -> None:
        """Write the answer for an image."""

    @abstractmethod
    def close(self) -> None:
        """Write the end of the file."""


class AnswerTable(AnswerFile):
    """A CSV file; its columns start with `image_id` and `file_name`."""

    format = FileFormat(".csv", "text/csv")

    def __init__(self, stream: BinaryIO, categories: Sequence[Category]) -> None:
        super().__init__(stream, categories)
        self._write(["image_id", "file_name", *self.columns()])

    @abstractmethod
    def columns(self) -> list[str]:
        """Return the names of the other columns."""

    @abstractmethod
    def rows(self, answer: AnswerJson) -> Iterable[Sequence[Any]]:
        """Return the values of the other columns for each row."""

    def add(self, image: AnsweredImage, answer: AnswerJson) -> None:
        for row in self.rows(answer):
            self._write([image.image_id, image.file_name, *row])

    def close(self) -> None:
        pass

    def _write(self, row: Sequence[Any]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(row)
        self.stream.write(text.getvalue().encode())


class AnswerList(AnswerFile):
    """A JSON list with one object on each line."""

    def __init__(self, stream: BinaryIO, categories: Sequence[Category]) -> None:
        super().__init__(stream, categories)
        self._separator = b"[\n"

    @abstractmethod
    def objects(self, image: AnsweredImage, answer: AnswerJson) -> Iterable[dict[str, Any]]:
        """Return the objects for an image."""

    def add(self, image: AnsweredImage, answer: AnswerJson) -> None:
        for row in self.objects(image, answer):
            self.stream.write(self._separator + json.dumps(row, allow_nan=False, ensure_ascii=False).encode())
            self._separator = b",\n"

    def close(self) -> None:
        self.stream.write(b"[]\n" if self._separator == b"[\n" else b"\n]\n")


class PlainAnswers(AnswerList):
    """The answers as they are, for kinds that have no files of their own."""

    format = FileFormat(".json", "application/json")

    def objects(self, image: AnsweredImage, answer: AnswerJson) -> Iterable[dict[str, Any]]:
        yield {"image_id": image.image_id, "file_name": image.file_name, **answer}
