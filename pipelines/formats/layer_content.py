"""The labels that one layer has for one split, before the layers are joined. Torch-free."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

from pipelines.base.findings import Finding

FileId = int | str | float

T = TypeVar("T")


@dataclass(frozen=True)
class FileBox:
    """One object as its file describes it.

    Attributes:
        bbox_xywh: left, top, width, height in `unit`; pixel 0 covers [0, 1].
        unit: pixels of the original image, or relative to its width and height (0 to 1).
        area: the area that the file gives (of a mask, for example), in the square of `unit`, or None.
        identities: the values of the identity fields that tasks ask for, by field.
    """

    annotation_id: FileId | None
    category: str
    bbox_xywh: tuple[float, float, float, float]
    is_crowd: bool = False
    is_difficult: bool = False
    area: float | None = None
    identities: dict[str, str] = field(default_factory=dict)
    unit: Literal["pixels", "relative"] = "pixels"

    def in_pixels(self, size_hw: tuple[int, int]) -> "FileBox":
        """Return the box in pixels of an image of `size_hw`; boxes in pixels are returned unchanged."""
        if self.unit == "pixels":
            return self
        height, width = size_hw
        x, y, box_width, box_height = self.bbox_xywh
        return replace(
            self,
            bbox_xywh=(x * width, y * height, box_width * width, box_height * height),
            area=None if self.area is None else self.area * width * height,
            unit="pixels",
        )


@dataclass
class FileImage:
    """One image that a layer lists; `boxes` and `classes` are None if the layer lists it without labeling it.

    `label_file` is set where each image has its own label file.
    """

    file_name: str
    file_id: FileId | None = None
    size_hw: tuple[int, int] | None = None
    boxes: list[FileBox] | None = None
    classes: list[str] | None = None
    label_file: str | None = None


@dataclass
class LayerContent:
    """Everything that one layer says about one split.

    Attributes:
        file: the file or folder that lists the images, relative to the data root.
        images: by file name, relative to the images folder.
        category_ids: ids of the declared categories, by name; a format without ids gives empty sets.
        num_read: the number of annotations in the file, where each class of an image counts as one.
        num_refused: the number of annotations that are not in `images`, by the kind of their finding.
    """

    file: str
    images: dict[str, FileImage] = field(default_factory=dict)
    category_ids: dict[str, set[FileId]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    num_read: int = 0
    num_refused: dict[str, int] = field(default_factory=dict)

    def read_file(self, path: Path, parse: Callable[[bytes], T], make_finding: Callable[..., Finding]) -> T | None:
        """Return what `parse` makes of a label file; None if it cannot be used, which becomes a finding.

        Args:
            path: the file.
            parse: returns the content of a file, never None, or raises ValueError with a message for users.
            make_finding: returns a finding about the file.
        """
        try:
            return parse(path.read_bytes())
        except OSError as error:
            message = f"cannot be read ({error.strerror}); correct its permissions, or restore the file"
        except ValueError as error:
            message = str(error)
        self.findings.append(make_finding("broken_label_file", message))
        return None

    def declare(self, categories: Iterable[tuple[int, str]], make_finding: Callable[..., Finding]) -> None:
        """Add categories with their ids, and report those with equal names."""
        for category_id, name in categories:
            if name in self.category_ids:
                others = ", ".join(map(str, sorted(self.category_ids[name], key=str)))
                message = f"the classes {others} and {category_id} are both {name!r}; they are merged"
                self.findings.append(make_finding("repeated_category", message))
            self.category_ids.setdefault(name, set()).add(category_id)

    def refuse(self, findings: Iterable[Finding]) -> None:
        """Add findings and count one skipped annotation for each."""
        for finding in findings:
            self.findings.append(finding)
            self.num_refused[finding.kind] = self.num_refused.get(finding.kind, 0) + 1

    def refuse_many(self, finding: Finding, number: int) -> None:
        """Add one finding for `number` skipped annotations."""
        self.findings.append(finding)
        self.num_refused[finding.kind] = self.num_refused.get(finding.kind, 0) + number

    def refuse_shapes(self, shapes: Mapping[str, int], make_finding: Callable[..., Finding]) -> None:
        """Add one finding for each kind of shape that has no box, and count its annotations as skipped."""
        for shape, number in sorted(shapes.items()):
            message = f"has annotations of the kind {shape!r}, which is not a box; {number} of them are skipped"
            self.refuse_many(make_finding("unsupported_shape", message), number)
