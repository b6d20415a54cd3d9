"""What a reader of one label layer returns for one split, before layers are joined. Torch-free."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.data.dataset.checks.findings import Finding
from pipelines.records import Split
from pipelines.spec.data import SourceSpec

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Files of these endings, in lower case, count as images."""

FileId = int | str | float


@dataclass(frozen=True)
class FileBox:
    """One object as its file has it: bbox_xywh in original pixels, 0-based; the identities that tasks ask for."""

    annotation_id: FileId | None
    category: str
    bbox_xywh: tuple[float, float, float, float]
    is_crowd: bool = False
    is_difficult: bool = False
    area: float | None = None
    identities: dict[str, str] = field(default_factory=dict)


@dataclass
class FileImage:
    """One image that a layer lists; `boxes` and `classes` are None where the layer lists it without labeling it.

    `label_file` is set where it is not the layer's own.
    """

    file_name: str
    file_id: FileId | None = None
    size_hw: tuple[int, int] | None = None
    boxes: list[FileBox] | None = None
    classes: list[str] | None = None
    label_file: str | None = None


@dataclass
class LayerContent:
    """All that one layer says about one split.

    `num_read` counts every annotation (of class layers: every class of every image) in the file; those that are not in
    `images` are counted in `num_refused` by the kind of their finding.
    """

    file: str
    images: dict[str, FileImage] = field(default_factory=dict)
    category_ids: dict[str, set[FileId]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    num_read: int = 0
    num_refused: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Which split of which source is read, and where it lies."""

    root: Path
    source_name: str
    source: SourceSpec
    split: Split

    @property
    def split_on_disk(self) -> str:
        """The split's name in paths and tables."""
        return self.source.splits[self.split]

    @property
    def images_dir(self) -> Path:
        """Folder that file names are relative to."""
        return self.root / self.fill(self.source.images)

    def fill(self, path: str) -> str:
        """`path` with the split's name on disk in it."""
        return path.replace("{split}", self.split_on_disk)

    def finding(
        self, kind: str, message: str, *, file: str = "", image: str | None = None, annotation_id: Any = None
    ) -> Finding:
        """A finding that knows its source and split."""
        return Finding(kind, message, self.source_name, self.split, file, image, annotation_id)

    def label_file(self, path: str) -> Path:
        """The file or folder below the root that `path` (with `{split}`) names.

        Raises:
            ValueError: it leaves the root, by `..` or by a link.
        """
        return below(self.root, self.fill(path))


def below(root: Path, relative: str) -> Path:
    """`relative` inside `root`, links resolved.

    Raises:
        ValueError: it is absolute, has `..`, or a link in it leads out.
    """
    if not relative or "\0" in relative or PurePosixPath(relative).is_absolute():
        raise ValueError(f"got {relative!r}; write a path relative to {root}")
    if ".." in PurePosixPath(relative).parts:
        raise ValueError(f"got {relative!r}; write it without '..'")
    path = (root / relative).resolve()
    if not path.is_relative_to(root.resolve()):
        raise ValueError(f"{relative!r} is a link that leads out of {root}")
    return path


def tidy_name(file_name: str) -> str:
    """`file_name` without `./` and doubled slashes, so that layers agree on it."""
    return str(PurePosixPath(file_name))


def count_refused(content: LayerContent, findings: Iterable[Finding]) -> None:
    """Add findings, each of which stands for one annotation that is left out."""
    for finding in findings:
        content.findings.append(finding)
        content.num_refused[finding.kind] = content.num_refused.get(finding.kind, 0) + 1
