"""All label formats, one row each, and the document's type that follows from them. Torch-free."""

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pipelines.formats.coco import CocoLayer
from pipelines.formats.csv_labels import CsvLayer
from pipelines.formats.cvat import CvatLayer
from pipelines.formats.datumaro import DatumaroLayer
from pipelines.formats.image_folder import ImageFolderLayer
from pipelines.formats.label_studio import LabelStudioLayer
from pipelines.formats.layer import LabelKind, LabelLayer
from pipelines.formats.voc import VocLayer
from pipelines.formats.writer import LabelWriter
from pipelines.formats.yolo import YoloLayer

FORMATS: tuple[type[LabelLayer], ...] = (
    CocoLayer,
    VocLayer,
    YoloLayer,
    CvatLayer,
    LabelStudioLayer,
    DatumaroLayer,
    CsvLayer,
    ImageFolderLayer,
)
"""The layers of the document, in the order of help texts and messages."""

if TYPE_CHECKING:
    Layer = LabelLayer
else:
    Layer = Annotated[reduce(or_, FORMATS), Field(discriminator="format")]
"""A layer of the document, chosen by its `format`."""


def formats_that_give(kinds: frozenset[LabelKind]) -> list[str]:
    """Return the names of the formats whose files can have all of these kinds of labels."""
    return [name_of(layer) for layer in FORMATS if kinds <= layer.GIVES]


def name_of(layer: type[LabelLayer]) -> str:
    """Return the value of `format` that selects a layer."""
    (name,) = layer.model_fields["format"].annotation.__args__  # type: ignore[union-attr]
    return str(name)


WRITERS: dict[str, type[LabelWriter]] = {name_of(layer): layer.WRITER for layer in FORMATS if layer.WRITER is not None}
"""The writers of all formats that can be written, by the name of the format."""
