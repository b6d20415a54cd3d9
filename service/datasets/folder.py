"""The folder of a version of a data set, and the files in it.

datasets/                      settings.datasets_dir
    archives/DIGEST/ID         archives, unless PYRAMIDION_STORAGE_URL names another storage
    incoming/                  uploads in progress, and notes of archives whose versions are not added yet
    ID/                        a checked version; ID.check-OWNER while it is checked
        check.json             CheckSummary
        report.json            the complete data report
        document.yaml          the drafted document
        files/                 extracted files; missing for a folder below a data root
        thumbnails/0.jpg ...
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

ARCHIVES = "archives"
INCOMING = "incoming"
FILES = "files"
_CHECK_MARK = ".check-"


class CheckRequest(BaseModel):
    """The task of the process of a data check.

    Attributes:
        id: of the version, the owner of the archive.
        name: of the data set.
        reference: NAME@VERSION, for the drafted document.
        content_sha256: of the archive, or of the listing of the folder.
        folder: path below a data root; None for an archive.
        sources: how the data is read; None: the format is recognized.
        max_bytes: of the extracted files.
        is_for_jobs: whether the files are extracted, but neither read nor checked: a job predicts the images.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    reference: str
    content_sha256: str
    folder: str | None
    sources: dict[str, Any] | None
    max_bytes: int
    is_for_jobs: bool = False


class ClassCount(BaseModel):
    """Labels of one class by split."""

    name: str = Field(description="name of the class")
    num_labels: dict[str, int] = Field(description="number of labels, by split")


class SizeCount(BaseModel):
    """Boxes of one range of sizes; the size of a box is the square root of its area."""

    min_px: int = Field(description="smallest size")
    max_px: int | None = Field(description="sizes are below it; null: unlimited")
    num_boxes: dict[str, int] = Field(description="number of boxes, by split")


class FindingGroup(BaseModel):
    """The findings of one kind."""

    kind: str = Field(description="name of the kind")
    title: str = Field(description="the kind in words")
    severity: Literal["error", "warning"] = Field(description="errors make a version invalid")
    num_findings: int = Field(description="number of findings")
    examples: list[str] = Field(description="at most 5 causes in words, the most frequent first")


class TaskStatistics(BaseModel):
    """Labels of one task."""

    task: str = Field(description="name of the task")
    kind: Literal["boxes", "classes", "identities"] = Field(description="kind of the task")
    num_labeled_images: dict[str, int] = Field(description="number of images, by split")
    num_classes: int = Field(description="number of classes")
    classes: list[ClassCount] = Field(description="at most 1000; the report lists all")
    box_sizes: list[SizeCount] = Field([], description="boxes by size; empty for tasks without boxes")


class CheckSummary(BaseModel):
    """The result of a data check, without the complete report."""

    is_ready: bool
    message: str | None = None
    problems: list[str] = Field([], description="the causes of errors, in words")
    format: str | None = None
    sources: dict[str, Any] | None = None
    document: dict[str, Any] | None = None
    num_files: int | None = None
    files_bytes: int = 0
    num_images: int | None = None
    splits: dict[str, int] = Field({}, description="labeled images")
    tasks: list[TaskStatistics] = []
    findings: dict[str, int] = Field({}, description="number of findings by kind")
    finding_groups: list[FindingGroup] = []
    num_errors: int = 0
    num_warnings: int = 0
    num_thumbnails: int = 0


@dataclass(frozen=True)
class DatasetFolder:
    """Paths of one version."""

    path: Path

    @property
    def request(self) -> Path:
        return self.path / "request.json"

    @property
    def summary(self) -> Path:
        return self.path / "check.json"

    @property
    def report(self) -> Path:
        return self.path / "report.json"

    @property
    def document(self) -> Path:
        return self.path / "document.yaml"

    @property
    def files(self) -> Path:
        return self.path / FILES

    @property
    def log(self) -> Path:
        return self.path / "check.log"

    @property
    def cache(self) -> Path:
        """The folder in which readers of label files store their results; it is deleted after the check."""
        return self.path / "cache"

    def thumbnail(self, index: int) -> Path:
        return self.path / "thumbnails" / f"{index}.jpg"

    def read_summary(self) -> CheckSummary | None:
        """Return the result of the check; None if it is missing or unreadable."""
        try:
            return CheckSummary.model_validate_json(self.summary.read_bytes())
        except (OSError, ValueError):
            return None


def version_folder(datasets_dir: Path, dataset_id: str) -> DatasetFolder:
    """Return the folder of a checked version."""
    return DatasetFolder(datasets_dir / dataset_id)


def check_folder(datasets_dir: Path, dataset_id: str, owner: str) -> DatasetFolder:
    """Return the folder in which an owner of the check works."""
    return DatasetFolder(datasets_dir / f"{dataset_id}{_CHECK_MARK}{owner}")


def is_check_folder(name: str) -> bool:
    """Return whether the folder with a name is that of a check."""
    return _CHECK_MARK in name


def check_folders(datasets_dir: Path, dataset_id: str) -> list[Path]:
    """Return the folders of all checks of a version, running and killed ones."""
    return sorted(datasets_dir.glob(f"{dataset_id}{_CHECK_MARK}*"))


def all_check_folders(datasets_dir: Path) -> dict[tuple[str, str], Path]:
    """Return the folders of the checks of all versions, by the id of the version and the owner of the check."""
    found = {path: path.name.partition(_CHECK_MARK) for path in datasets_dir.glob(f"*{_CHECK_MARK}*")}
    return {(dataset_id, owner): path for path, (dataset_id, _, owner) in found.items()}
