"""Select, rename and clip the labels of a file for training, and account for every one of them. Torch-free."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from pipelines.base.findings import Finding
from pipelines.base.records import Split
from pipelines.formats.layer_content import FileBox, FileImage

ROUNDING_PX = 0.01
"""Boxes that leave their image by at most this much are kept: COCO files are rounded to two decimals."""


@dataclass
class LayerCounts:
    """Counts of the annotations of one layer and split: `read` is the sum of `kept` and all that were skipped.

    In a layer of classes, each class of each image counts as an annotation. `crowd`, `difficult`, `clipped` and
    `duplicate` are parts of `kept`.
    """

    source: str
    split: Split
    file: str
    tasks: tuple[str, ...]
    read: int = 0
    kept: int = 0
    degenerate: int = 0
    outside: int = 0
    dropped: int = 0
    repeated: int = 0
    unknown_category: int = 0
    unknown_image: int = 0
    broken_entry: int = 0
    unsupported_shape: int = 0
    unusable_image: int = 0
    skipped_image: int = 0
    crowd: int = 0
    difficult: int = 0
    clipped: int = 0
    duplicate: int = 0

    @property
    def skipped(self) -> int:
        """The number of annotations that are not kept."""
        return (
            self.degenerate
            + self.outside
            + self.dropped
            + self.repeated
            + self.unknown_category
            + self.unknown_image
            + self.broken_entry
            + self.unsupported_shape
            + self.unusable_image
            + self.skipped_image
        )

    @property
    def adds_up(self) -> bool:
        """True if every annotation that was read is either kept or skipped."""
        return self.read == self.kept + self.skipped

    def to_dict(self) -> dict[str, Any]:
        """Return all counts, for JSON."""
        return {item.name: getattr(self, item.name) for item in fields(self)} | {"adds_up": self.adds_up}


def clean_boxes(
    image: FileImage,
    size_hw: tuple[int, int],
    classes: Mapping[str, str | None],
    counts: LayerCounts,
    make_finding: Callable[..., Finding],
    findings: list[Finding],
) -> list[tuple[int, FileBox]]:
    """Return the boxes that are kept, renamed and clipped to the image, each with its position in the file.

    Args:
        image: the image with its boxes, in pixels or relative to its size.
        size_hw: the measured size of the image.
        classes: new names of classes; None drops a class.
        counts: every box is added to one of these.
        make_finding: returns a finding from kind, message, image and annotation id.
        findings: problems of the boxes are appended.
    """
    size = f"{size_hw[1]} x {size_hw[0]}"
    kept: list[tuple[int, FileBox]] = []
    seen: set[tuple[str, tuple[float, ...]]] = set()
    for position, file_box in enumerate(image.boxes or []):
        box = file_box.in_pixels(size_hw)
        category = classes.get(box.category, box.category)
        if category is None:
            counts.dropped += 1
            continue

        def report(kind: str, message: str, box: FileBox = box, position: int = position) -> None:
            shown_id = f"#{position}" if box.annotation_id is None else box.annotation_id
            findings.append(make_finding(kind, message, image, shown_id))

        if box.bbox_xywh[2] <= 0 or box.bbox_xywh[3] <= 0:
            counts.degenerate += 1
            report("degenerate_box", f"has no area, {shown_box(box)}; it is skipped")
            continue
        clipped = _clip(box, size_hw)
        if clipped is None:
            counts.outside += 1
            report(
                "out_of_image_box",
                f"is outside of the image of {size}, {shown_box(box)}; it is skipped",
            )
            continue
        if clipped is not box:
            counts.clipped += 1
            report(
                "out_of_image_box",
                f"is partly outside of the image of {size}, {shown_box(box)}; it is clipped",
            )
        if box.area is not None and not _is_plausible(box.area, box):
            report("wrong_area", f"has the area {box.area:g} for {shown_box(box)}; width x height is used")
            clipped = replace(clipped, area=None)
        if (category, box.bbox_xywh) in seen:
            counts.duplicate += 1
            report("duplicate_box", f"is repeated as {category!r}, {shown_box(box)}; both boxes are kept")
        seen.add((category, box.bbox_xywh))
        counts.kept += 1
        counts.crowd += box.is_crowd
        counts.difficult += box.is_difficult
        kept.append((position, replace(clipped, category=category)))
    return kept


def clean_classes(image: FileImage, classes: Mapping[str, str | None], counts: LayerCounts) -> list[str] | None:
    """Return the renamed classes of an image, each once; None if the image is not labeled."""
    if image.classes is None:
        return None
    names: list[str] = []
    for old in image.classes:
        new = classes.get(old, old)
        if new is None:
            counts.dropped += 1
        elif new in names:
            counts.repeated += 1
        else:
            counts.kept += 1
            names.append(new)
    return names


def shown_box(box: FileBox) -> str:
    """Return the box as messages show it."""
    return "(" + ", ".join(f"{side:g}" for side in box.bbox_xywh) + ")"


def _is_plausible(area: float, box: FileBox) -> bool:
    """Return whether an area can be that of a mask in the box.

    Areas of masks are smaller than the box; one more pixel on each side and 10 % are accepted, because some tools count
    both end pixels, and round. Zero, a placeholder such as 1, and a share of the image are not areas in pixels.
    """
    width, height = box.bbox_xywh[2:]
    is_placeholder = area <= 1 and area < 0.002 * width * height
    return 0 < area <= 1.1 * (width + 1) * (height + 1) and not is_placeholder


def _clip(box: FileBox, size_hw: tuple[int, int]) -> FileBox | None:
    """Return the box clipped to the image: the same object if nothing changes, None if nothing remains."""
    (x, y, width, height), (image_height, image_width) = box.bbox_xywh, size_hw
    x1, y1 = max(x, 0.0), max(y, 0.0)
    x2, y2 = min(x + width, float(image_width)), min(y + height, float(image_height))
    if x2 <= x1 or y2 <= y1:
        return None
    moved = max(x1 - x, y1 - y, x + width - x2, y + height - y2)
    if moved <= ROUNDING_PX:
        return box
    area = None if box.area is None else min(box.area, (x2 - x1) * (y2 - y1))
    return replace(box, bbox_xywh=(x1, y1, x2 - x1, y2 - y1), area=area)
