"""The contract of formats that can be written, and the data that they write. Torch-free."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from pipelines.base.paths import IMAGE_SUFFIXES
from pipelines.base.records import BoxLabel, Category, ImageRecord, Split

NOT_IN_XML = re.compile(r"[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]")
"""Characters that XML 1.0 cannot contain, and carriage returns, which its parsers change (sections 2.2 and 2.11)."""


@dataclass(frozen=True)
class WrittenImage:
    """An image with its objects; `file_name` is relative to the images folder that is written."""

    record: ImageRecord
    file_name: str
    boxes: list[BoxLabel]


@dataclass
class WritableData:
    """The labels of one task for all splits.

    Attributes:
        root: the folder to write to.
        categories: the classes, in their order.
        images: the images by split.
        identity_field: name of the annotation field that is the identity, or None.
        lost: what the format cannot express, with its number; writers count here.
    """

    root: Path
    categories: list[Category]
    images: dict[Split, list[WrittenImage]]
    identity_field: str | None = None
    lost: Counter[str] = field(default_factory=Counter)

    def all_images(self) -> Iterator[WrittenImage]:
        """Yield the images of all splits."""
        for images in self.images.values():
            yield from images

    def count_lost(self, what: str, number: int = 1) -> None:
        """Count something that the format cannot express."""
        if number:
            self.lost[what] += number

    def write_text(self, path: str, text: str) -> None:
        """Write a text file, relative to the root."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text, encoding="utf-8")


class LabelWriter(ABC):
    """Writes the label files of a data set whose images are in `IMAGES`."""

    IMAGES: ClassVar[str]
    """Folder of the images; it may contain `{split}`."""

    @abstractmethod
    def write(self, data: WritableData) -> dict[str, Any]:
        """Write the label files, count what is lost, and return the layer for the document, without its tasks."""

    def valid_name(self, file_name: str) -> str:
        """Return the name under which an image is written: its last part ends like an image, and nothing is hidden."""
        parts = [f"_{part[1:]}" if part.startswith(".") else part for part in file_name.split("/")]
        is_image = PurePosixPath(file_name).suffix.lower() in IMAGE_SUFFIXES
        return "/".join(parts) + ("" if is_image else ".jpg")

    def keeps(self, text: str) -> bool:
        """Return whether a class or an identity is read again as it is written."""
        return text == text.strip() != ""


def without_blanks(file_name: str) -> str:
    """Return a name with underscores for blanks and for characters that XML files cannot contain."""
    return re.sub(rf"\s|{NOT_IN_XML.pattern}", "_", file_name)
