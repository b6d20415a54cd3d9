"""The data set in memory without pixels: images, labels and categories. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class BoxLabel:
    """One object. `bbox_xywh` is in original pixels, 0-based and exclusive, clipped to the image.

    A crowd is a region that is neither positive nor negative; a difficult object (VOC) is used for training. Both are
    ignored in scoring. `area` is the area that the file gives (of a mask, for example), or None.
    """

    annotation_id: int
    category: str
    bbox_xywh: tuple[float, float, float, float]
    is_crowd: bool = False
    area: float | None = None
    identity: str | None = None
    is_difficult: bool = False

    @property
    def is_ignored_in_scoring(self) -> bool:
        """True if a detection of this object counts neither as right nor as wrong."""
        return self.is_crowd or self.is_difficult


@dataclass
class ImageRecord:
    """One image of one split, and its labels by task.

    `labels[task]` is list[BoxLabel] (detection, embedding of objects) or list[str] (classes; exactly one for multiclass
    and for embeddings of images). A missing key means that the image is not labeled for the task; an empty list means
    that it is labeled and has no object or class.
    """

    image_id: int
    source: str
    split: Split
    file_name: str
    path: Path
    height: int = 0
    width: int = 0
    labels: Mapping[str, list[BoxLabel] | list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Category:
    """A class as users see it; its position in a task's list is the label that the network learns."""

    id: int
    name: str


@dataclass
class DatasetIndex:
    """All sources of a job: records by split, and categories by task (identities for an embedding)."""

    records: dict[Split, Sequence[ImageRecord]]
    categories: dict[str, list[Category]]

    @property
    def final_split(self) -> Split:
        """The split that a run is scored on at its end: test if the data has one."""
        return "test" if self.records.get("test") else "val"
