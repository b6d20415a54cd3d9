"""Response bodies about the server itself. Torch-free."""

from datetime import datetime

from pydantic import Field

from service.rest.schemas import Answer
from service.states import JobStatus


class ResourceUse(Answer):
    """A resource that jobs share."""

    name: str = Field(description="cpus or gpus")
    capacity: int = Field(description="how many all jobs may use together")
    used: int = Field(description="how many the active jobs hold")


class DiskUse(Answer):
    """The disk of the root, which has run folders and data sets."""

    total_bytes: int = Field(description="size of the disk")
    free_bytes: int = Field(description="free space")
    min_free_bytes: int = Field(description="below it, new work is refused")


class SystemView(Answer):
    """The state of the server: resources in use, queued jobs, and versions."""

    version: str = Field(description="version of the program")
    python: str = Field(description="version of Python")
    packages: dict[str, str] = Field(description="versions of the packages that decide about results")
    executor: str = Field(description="what runs attempts, such as `local`")
    resources: list[ResourceUse] = Field(description="cores and GPUs")
    disk: DiskUse | None = Field(description="null if the disk cannot be read")
    jobs: dict[JobStatus, int] = Field(description="number of jobs of all tenants by status")
    queued_since: datetime | None = Field(description="submission of the oldest queued job; null without one")
