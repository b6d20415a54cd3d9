"""Findings of the data check: their kinds, and whether a kind stops a run. Torch-free."""

from dataclasses import dataclass
from typing import Any, Literal

from pipelines.base.printable import printable, shorten_values, shortened
from pipelines.base.records import Split

Severity = Literal["error", "warning"]
_MAX_TEXT = 2000
"""Longer messages are shortened even where they are stored: values of broken files have no limit."""


@dataclass(frozen=True)
class Kind:
    """One kind of finding: its severity, and a title for tables."""

    severity: Severity
    title: str


KINDS: dict[str, Kind] = {
    "missing_label_file": Kind("error", "missing label files"),
    "broken_label_file": Kind("error", "unreadable label files"),
    "broken_entry": Kind("error", "invalid entries of label files"),
    "wrong_layer": Kind("error", "layers with a format that lacks the labels of the task"),
    "box_units": Kind("error", "layers with boxes in other units or in another order"),
    "unknown_image": Kind("error", "annotations of unlisted images"),
    "unknown_category": Kind("error", "annotations of undeclared categories"),
    "ambiguous_image": Kind("error", "image ids used for two files"),
    "ambiguous_class": Kind("error", "images with several classes for a task that takes one"),
    "unsafe_path": Kind("error", "paths that lead out of their root, or that the system refuses"),
    "undecodable_name": Kind("error", "names that cannot be written as text"),
    "missing_image": Kind("error", "missing images"),
    "unreadable_image": Kind("error", "unreadable images"),
    "values_out_of_range": Kind("error", "sources with pixel values outside of their range"),
    "same_image_in_splits": Kind("error", "equal images in different splits"),
    "empty_split": Kind("error", "splits without a labeled image"),
    "no_labels": Kind("error", "tasks without labels in train"),
    "too_few_identities": Kind("error", "sources with fewer identities than a batch needs"),
    "unknown_element": Kind("warning", "elements of XML label files that are misspelled or not read"),
    "empty_annotation": Kind("warning", "VOC files without any element (no objects)"),
    "wrong_area": Kind("warning", "areas that do not fit their box (width x height is used)"),
    "degenerate_box": Kind("warning", "boxes without an area (skipped)"),
    "out_of_image_box": Kind("warning", "boxes that leave their image (clipped or skipped)"),
    "duplicate_box": Kind("warning", "repeated boxes (kept)"),
    "mis_sized_image": Kind("warning", "images with a size other than declared"),
    "truncated_image": Kind("warning", "truncated JPEG files (missing rows are gray)"),
    "unused_value_range": Kind("warning", "sources that use a small part of their range of pixel values"),
    "unlabelled_image": Kind("warning", "listed images without labels (skipped)"),
    "unlisted_image": Kind("warning", "image files that no label file lists"),
    "unsupported_shape": Kind("warning", "annotations without a box (skipped)"),
    "several_annotations": Kind("warning", "images that several people have labeled"),
    "no_label_file": Kind("warning", "images without label files (no objects)"),
    "moved_data_set": Kind("warning", "label files that name a folder of another place"),
    "other_file": Kind("warning", "files in class folders that are not images"),
    "repeated_image": Kind("warning", "images listed twice in one label file"),
    "same_image_in_split": Kind("warning", "equal images in one split"),
    "repeated_category": Kind("warning", "categories with equal names (merged)"),
    "unused_category": Kind("warning", "declared categories without annotations"),
    "not_in_train": Kind("warning", "categories of val or test that are missing in train"),
    "unused_rename": Kind("warning", "renamed classes without labels"),
    "unassigned_image": Kind("warning", "listed images that the split file does not assign (skipped)"),
    "unused_split": Kind("warning", "rows of a split file without an image"),
    "unknown_split": Kind("warning", "rows with splits that the source does not name"),
    "missing_test_layer": Kind("warning", "layers without test data although another layer has some"),
    "image_not_drawn": Kind("warning", "sources with images that their sampler never draws"),
    "no_labels_to_score": Kind("warning", "tasks without labels in val or test"),
}
"""All kinds by name. Errors stop a run, warnings do not; a title names in parentheses how the data is handled."""


@dataclass(frozen=True)
class Finding:
    """One problem of the data.

    `file` is a label file or an image, relative to the data root; `annotation_id` is the id in that file. Findings with
    the same `cause` are reported as one line with a count (see `pipelines.base.causes`); set it where messages of one
    cause differ by names. `is_skipped` says that the image is left out of the data because of the problem.
    """

    kind: str
    message: str
    source: str = ""
    split: Split | None = None
    file: str = ""
    image: str | None = None
    annotation_id: int | str | None = None
    cause: str = ""
    is_skipped: bool = False

    def __post_init__(self) -> None:
        for name in ("message", "source", "file", "image", "annotation_id"):
            value = getattr(self, name)
            if isinstance(value, str):
                shown = printable(value)
                object.__setattr__(self, name, shown if name in ("file", "image") else _limited(shown))

    @property
    def severity(self) -> Severity:
        """The severity of its kind; a warning if the image is skipped."""
        return "warning" if self.is_skipped else KINDS[self.kind].severity

    def to_dict(self) -> dict[str, Any]:
        """Return all fields that are set, for JSON."""
        fields = {
            "kind": self.kind,
            "source": self.source,
            "split": self.split,
            "file": self.file,
            "image": self.image,
            "annotation_id": self.annotation_id,
            "message": self.message,
        }
        return {key: value for key, value in fields.items() if value not in (None, "")}

    def __str__(self) -> str:
        """Return file, annotation and message in one line, with the middle of long names and values left out."""
        parts = [self.file, self.image if self.image != self.file else None]
        if self.annotation_id is not None:
            parts.append(f"annotation {self.annotation_id}")
        place = ", ".join(shortened(part) for part in parts if part)
        message = shorten_values(self.message)
        return f"{place}: {message}" if place else message


def _limited(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT // 2]} ... {text[-_MAX_TEXT // 2 :]}"
