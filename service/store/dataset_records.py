"""Rows about data sets as values. Torch-free."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

SHORT_DIGITS = 12
"""Digits of a version in names; the digest has 64."""


class DatasetStatus(StrEnum):
    """The state of a version of a data set."""

    CHECKING = "checking"
    READY = "ready"
    INVALID = "invalid"
    DELETING = "deleting"


@dataclass(frozen=True)
class NewDatasetVersion:
    """A version of a data set that can be checked; see `tables.dataset_versions`."""

    id: str
    name: str
    sha256: str
    content_sha256: str
    archive_bytes: int = 0
    folder: str | None = None
    sources: dict[str, Any] | None = None
    of_jobs: bool = False


@dataclass(frozen=True)
class JobImages:
    """Images that are uploaded with a job, and become a version of a data set in the transaction that adds the job.

    Attributes:
        quota_bytes: of the tenant.
    """

    version: NewDatasetVersion
    quota_bytes: int


@dataclass(frozen=True)
class DatasetVersion:
    """A row of `dataset_versions`."""

    number: int
    id: str
    tenant: str
    created_by: str
    name: str
    sha256: str
    status: DatasetStatus
    message: str | None
    content_sha256: str
    archive_bytes: int
    folder: str | None
    sources: dict[str, Any] | None
    created_at: float
    checked_at: float | None
    check_due_at: float
    check_owner: str | None
    check_attempts: int
    files_bytes: int
    num_images: int | None
    of_jobs: bool = False

    @property
    def version(self) -> str:
        """The first digits of the digest, which name the version."""
        return self.sha256[:SHORT_DIGITS]

    @property
    def reference(self) -> str:
        """The name of the version in documents."""
        return reference_of(self.name, self.sha256)


@dataclass(frozen=True)
class CheckedDataset:
    """The result of a data check.

    Attributes:
        is_ready: whether jobs can use the version.
        message: the reason why they cannot.
        sources: how the data is read.
        files_bytes: size of the extracted files.
    """

    is_ready: bool
    message: str | None = None
    sources: dict[str, Any] | None = None
    files_bytes: int = 0
    num_images: int | None = None


def reference_of(name: str, sha256: str) -> str:
    """Return the name of a version in documents."""
    return f"{name}@{sha256[:SHORT_DIGITS]}"
