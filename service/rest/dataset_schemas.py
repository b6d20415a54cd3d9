"""Request and response bodies of data sets. Torch-free."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from pipelines.base.names import Name
from service.datasets.folder import FindingGroup, TaskStatistics
from service.rest.schemas import Answer, Page, Request
from service.store.dataset_records import DatasetStatus


class FolderRequest(Request):
    """A folder below a data root to register as a data set."""

    name: Name = Field(description="name of the data set")
    folder: Annotated[str, Field(min_length=1, max_length=1000, description="path below a data root of the server")]
    sources: dict[str, Any] | None = Field(
        None, description="the section `data.sources` of a document; by default the format is recognized"
    )


class DatasetSummary(Answer):
    """A version of a data set as shown in lists."""

    name: str = Field(description="name of the data set")
    version: str = Field(description="the first 12 digits of `sha256`")
    reference: str = Field(description="NAME@VERSION, the value of `data.dataset` in a document")
    sha256: str = Field(description="digest of the archive, or of the folder's listing, together with given sources")
    status: DatasetStatus = Field(description="`checking` until the check has ended")
    message: str | None = Field(description="the reason why it is invalid, or a restriction")
    kind: Literal["archive", "folder"] = Field(description="the origin of the files")
    folder: str | None = Field(description="path below a data root; null for an archive")
    archive_bytes: int = Field(description="size of the uploaded archive; 0 for a folder")
    files_bytes: int = Field(description="size of the extracted files")
    num_images: int | None = Field(description="null until the check has ended")
    of_jobs: bool = Field(description="images that were uploaded with a job, and are deleted with it")
    created_at: datetime = Field(description="time of the upload or registration")
    created_by: str = Field(description="name of the key or of the user")
    checked_at: datetime | None = Field(description="end of the check; null before it")


class DatasetView(DatasetSummary):
    """A version of a data set with the result of its check."""

    problems: list[str] = Field(description="the causes of errors, in words")
    format: str | None = Field(description="recognized format of the labels; null without labels")
    num_files: int | None = Field(description="null until the check has ended")
    splits: dict[str, int] = Field(description="number of labeled images")
    tasks: list[TaskStatistics] = Field(description="labels by class and split")
    findings: dict[str, int] = Field(description="number of findings of the data check by kind; see the report")
    finding_groups: list[FindingGroup] = Field(
        [], description="the findings by kind with examples, errors first; empty for checks by older programs"
    )
    num_errors: int = Field(description="findings that make the version invalid")
    num_warnings: int = Field(description="findings that do not")
    num_thumbnails: int = Field(description="see `GET .../thumbnails/{index}`")
    document: dict[str, Any] | None = Field(description="a drafted document for a first training with this version")


class DatasetPage(Page):
    """A page of versions, newest first."""

    datasets: list[DatasetSummary] = Field(description="versions of data sets")
