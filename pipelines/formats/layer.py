"""The contract of a label format: a section of the document that knows its files and how to read them. Torch-free."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any, ClassVar, Literal

from pydantic import Field

from backbones.spec.section import Section
from pipelines.base.names import TaskName
from pipelines.formats.box_numbers import BoxNumbers
from pipelines.formats.folder_contents import FolderContents, FolderReading
from pipelines.formats.layer_content import LayerContent
from pipelines.formats.source_split import SourceSplit
from pipelines.formats.writer import LabelWriter

LabelKind = Literal["boxes", "classes", "identities"]
"""Boxes with their classes, classes of whole images, and identities of boxes."""


class LabelLayer(Section, ABC):
    """Labels for some tasks, joined to the source's images by relative path.

    A format is a subclass with a literal `format`, the fields that a document sets, `GIVES`, `paths`, `read` and
    optionally `recognize`. It is registered by its line in `pipelines.formats.catalog`.
    """

    GIVES: ClassVar[frozenset[LabelKind]]
    """The kinds of labels that files of the format can have."""
    RECOGNIZED_BY: ClassVar[str] = ""
    """The files by which `recognize` knows the format, for messages; empty if it recognizes nothing."""

    NUMBERS: ClassVar[BoxNumbers] = BoxNumbers()
    """Meaning of the four numbers of a box in the files of the format."""

    WRITER: ClassVar[type[LabelWriter] | None] = None
    """Writes label files of the format, for formats that can be written."""

    tasks: tuple[TaskName, ...] = Field(min_length=1)
    classes: dict[str, str | None] = Field(
        {}, description="new names of classes: several with one new name are merged, and null drops a class"
    )
    format: str

    @abstractmethod
    def paths(self, images: str) -> dict[str, str]:
        """Return every file and folder that `read` opens, by the field of the layer that names it.

        The first one lists the images of a split: messages about the whole layer name it.

        Args:
            images: the source's images folder.

        Returns:
            Patterns relative to the data root, in which `{split}` stands for the split's name on disk.
        """

    @abstractmethod
    def read(self, split: SourceSplit, identity_fields: Collection[str]) -> LayerContent | None:
        """Return the labels of a split, or None if the layer has no file for it or lists nothing of it.

        Everything that is wrong with the files becomes a finding of the content.

        Args:
            split: the split, and where its files are.
            identity_fields: annotation fields that tasks use as identities, for formats that give them.

        Raises:
            ValueError: a path of the layer leaves the data root.
        """

    @classmethod
    def recognize(cls, folder: FolderContents) -> list[FolderReading]:
        """Return the ways in which a folder can be read in this format, the best one first.

        `pyramidion init` asks every format. The default is that a format recognizes nothing.
        """
        return []

    @property
    def has_declared_numbers(self) -> bool:
        """True if the field `unit` or `bbox` of the format says what the numbers of boxes are.

        The data check does not judge them then.
        """
        return any(getattr(self, name, None) is not None for name in ("unit", "bbox"))

    def listing(self, images: str) -> str:
        """Return the pattern, relative to the data root, of the file or folder that lists the images of a split."""
        return next(iter(self.paths(images).values()))


def confirmed_unit(unit: str) -> Any:
    """Return the field `unit` of a format whose boxes are always in one unit."""
    text = f"set it to {unit} if the data check takes the boxes of this layer for another unit or order"
    return Field(None, description=text)
