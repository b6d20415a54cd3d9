"""What the data check can find, and whether it stops a run. Torch-free."""

from dataclasses import dataclass
from typing import Any, Literal

from pipelines.records import Split

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Kind:
    """One sort of finding: its severity, and a title for tables."""

    severity: Severity
    title: str


KINDS: dict[str, Kind] = {
    "missing_label_file": Kind("error", "label files that are not there"),
    "broken_label_file": Kind("error", "label files that cannot be read"),
    "broken_entry": Kind("error", "entries of label files that make no sense"),
    "wrong_layer": Kind("error", "layers whose format does not fit the task"),
    "unknown_image": Kind("error", "annotations of images that the file does not list"),
    "unknown_category": Kind("error", "annotations of categories that the file does not declare"),
    "ambiguous_image": Kind("error", "image ids that stand for two files"),
    "ambiguous_class": Kind("error", "images with several classes where one is wanted"),
    "unsafe_path": Kind("error", "paths that leave their root"),
    "missing_image": Kind("error", "images that are not there"),
    "unreadable_image": Kind("error", "images that cannot be read"),
    "same_image_in_splits": Kind("error", "the same image in two splits"),
    "empty_split": Kind("error", "splits without a labeled image"),
    "no_labels": Kind("error", "tasks without a label in train"),
    "too_few_identities": Kind("error", "sources with fewer identities than a batch takes"),
    "degenerate_box": Kind("warning", "boxes without an area, left out"),
    "out_of_image_box": Kind("warning", "boxes that leave their image, clipped or left out"),
    "duplicate_box": Kind("warning", "boxes that are there twice, kept"),
    "mis_sized_image": Kind("warning", "images of another size than declared"),
    "unlabelled_image": Kind("warning", "listed images that no layer labels, left out"),
    "unlisted_image": Kind("warning", "image files that no label file names"),
    "other_file": Kind("warning", "files in class folders that are no images"),
    "repeated_image": Kind("warning", "images listed twice by one label file"),
    "same_image_in_split": Kind("warning", "the same image twice in one split"),
    "unused_category": Kind("warning", "declared categories without an annotation"),
    "not_in_train": Kind("warning", "categories of val or test that train does not have"),
    "unused_rename": Kind("warning", "renamed classes that no label has"),
    "unknown_split": Kind("warning", "rows of splits that the source does not name"),
    "missing_test_layer": Kind("warning", "layers without a test split where another layer has one"),
    "image_not_drawn": Kind("warning", "sources with images that their sampler does not draw"),
    "no_labels_to_score": Kind("warning", "tasks without a label in val or test"),
}
"""By name. Errors stop a run; with warnings it goes on, and says what it did about them in the title."""


@dataclass(frozen=True)
class Finding:
    """One thing found. `file` is a label file or an image, relative to the data root; `annotation_id` is the file's."""

    kind: str
    message: str
    source: str = ""
    split: Split | None = None
    file: str = ""
    image: str | None = None
    annotation_id: int | str | None = None

    @property
    def severity(self) -> Severity:
        """Whether this stops a run."""
        return KINDS[self.kind].severity

    def to_dict(self) -> dict[str, Any]:
        """All fields that are set, for JSON."""
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
        """File, annotation and message in a line."""
        parts = [self.file, self.image if self.image != self.file else None]
        if self.annotation_id is not None:
            parts.append(f"annotation {self.annotation_id}")
        place = ", ".join(part for part in parts if part)
        return f"{place}: {self.message}" if place else self.message
