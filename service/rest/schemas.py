"""Request and response bodies, except the job document (`pipelines.spec.job`) and results (`pipelines.spec.result`).

Torch-free. The client reads responses with the same classes.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from service.jobs.kinds.registry import JobKindName
from service.resources import CPUS, GPUS
from service.states import FailureKind, JobStatus
from service.store.records import EventKind, Outcome


class Answer(BaseModel):
    """Base of response bodies."""

    model_config = ConfigDict(frozen=True)


class Request(BaseModel):
    """Base of request bodies; unknown keys are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ResourcesRequest(Request):
    """Resources that a job requests; a missing value is the server's default."""

    cpus: Annotated[int, Field(ge=1)] | None = Field(None, description="CPU cores, and threads of the trainer")
    gpus: Annotated[int, Field(ge=0)] | None = Field(None, description="number of GPUs")
    timeout_s: Annotated[float, Field(gt=0)] | None = Field(
        None, description="maximum seconds from the start of the first attempt to the end of the job"
    )

    def counts(self) -> dict[str, int]:
        """Return the counts that are requested, by resource."""
        counts = {CPUS: self.cpus, GPUS: self.gpus}
        return {name: count for name, count in counts.items() if count is not None}


class JobRequest(Request):
    """A job to submit."""

    config: dict[str, JsonValue] = Field(description="the job document; GET /v1/catalog/schema returns its schema")
    kind: JobKindName = Field("fit", description="what the job does; each kind has its own document")
    priority: Annotated[int, Field(ge=-100, le=100)] = Field(0, description="jobs with a higher priority start earlier")
    resources: ResourcesRequest = ResourcesRequest()


class PriorityRequest(Request):
    """A new priority of a job."""

    priority: Annotated[int, Field(ge=-100, le=100)]


class Resources(Answer):
    """Resources that a job uses while it runs."""

    cpus: int
    gpus: int
    timeout_s: float | None


class Progress(Answer):
    """Progress of a job: of a training with the losses of the last reported step, or of work that is counted."""

    epoch: int
    step: int
    max_epochs: int | None = None
    batch: int | None = None
    batches: int | None = None
    losses: dict[str, float] = {}
    lr: float | None = None
    images_per_s: float | None = None
    left_s: float | None = Field(None, description="estimated remaining seconds of training, or of the counted work")
    done: int | None = Field(None, description="units of counted work that are done, such as images")
    total: int | None = Field(None, description="all units of counted work; null for a training")
    unit: str | None = Field(None, description="the unit of counted work, such as `images`")
    per_s: float | None = Field(None, description="units per second")


class Failure(Answer):
    """The reason why a job failed."""

    kind: FailureKind
    message: str = Field(description="the reason in one sentence")
    log_tail: list[str] = Field(description="last lines of the last attempt's log")


class AttemptView(Answer):
    """One attempt to run a job."""

    number: int
    started_at: datetime
    ended_at: datetime | None
    outcome: Outcome | None
    exit_code: int | None = Field(description="if negative, the signal that terminated the trainer")
    message: str | None
    gpu_ids: list[str]


class JobSummary(Answer):
    """A job as shown in lists."""

    id: str
    name: str
    kind: str = Field("fit", description="what the job does, such as `fit`")
    status: JobStatus
    stage: str | None = Field(description="current activity of the running attempt")
    priority: int
    resources: Resources
    progress: Progress | None
    attempt: int = Field(description="number of the current or last attempt; 0 before the first one")
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    mlflow_run_id: str | None
    retry_of: str | None
    tenant: str = Field("local", description="owner; only its keys and admin keys see the job")


class JobView(JobSummary):
    """A job with all details."""

    dataset: str | None = Field(None, description="the version of a data set that the job uses, NAME@VERSION")
    waits_for: str | None = Field(description="the reason why a queued job has not started yet")
    failure: Failure | None
    attempts: list[AttemptView]
    config: dict[str, Any] = Field(description="the document as it was submitted")


class JobPage(Answer):
    """A page of jobs, newest first."""

    jobs: list[JobSummary]
    next_cursor: str | None = Field(description="value of `cursor` for the next page; null on the last page")


class EventView(Answer):
    """An event of a job."""

    seq: int
    time: datetime
    kind: EventKind
    attempt: int
    epoch: int
    step: int
    data: dict[str, Any]


class EventPage(Answer):
    """Events after a sequence number."""

    events: list[EventView]
    next_after: int = Field(description="value of `after` for the next request")
    is_over: bool = Field(description="true if the job has ended and no more events will follow")


class LogLine(Answer):
    """A line of a log."""

    attempt: int
    offset: int = Field(
        description="byte offset in the attempt's log after this line; value of `after` to continue here"
    )
    text: str


class StageParameters(Answer):
    """Number of parameters of one part of the network."""

    stage: str
    parameters: int


class TrainableFrom(Answer):
    """The parts of the network that train from an epoch on."""

    epoch: int
    stages: list[str]
    parameters: int


class DryRun(Answer):
    """Report on what a job would train; nothing is stored or trained."""

    config: dict[str, Any] = Field(description="the document with all defaults filled in")
    resources: Resources
    data_report: dict[str, Any]
    stages: list[StageParameters]
    trainable: list[TrainableFrom]
    precision: str | None = Field(None, description="of training on this machine; null if it lacks the device")


class Artifact(Answer):
    """A file of a job's run folder."""

    path: str
    size_bytes: int
    sha256: str
    modified_at: datetime


class ArtifactList(Answer):
    """All files of a job's run folder."""

    artifacts: list[Artifact]


class PredictionFile(Answer):
    """A file with the predictions of a job for one task."""

    task: str
    url: str
    media_type: str
    size_bytes: int
    sha256: str


class PredictionFiles(Answer):
    """All files with predictions of a job."""

    files: list[PredictionFile]


class ProblemField(Answer):
    """One invalid value in a request."""

    pointer: str = Field(description="RFC 6901 pointer into the request body; empty for the whole body")
    detail: str


class ProblemDetails(Answer):
    """An error response (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[ProblemField] = []


class Alive(Answer):
    """The API process answers."""

    status: Literal["alive"] = "alive"


class Check(Answer):
    """State of one requirement of the service."""

    name: str
    is_ok: bool
    detail: str


class Readiness(Answer):
    """Ability of the service to accept and run jobs."""

    is_ready: bool
    checks: list[Check]


class Capabilities(Answer):
    """Version, resources and limits of this server."""

    version: str
    cpus: int = Field(description="CPU cores that all jobs may use together")
    gpus: int = Field(description="GPUs that all jobs may use together")
    default_cpus: int = Field(description="CPU cores of a job that requests none")
    default_gpus: int = Field(description="GPUs of a job that requests none")
    job_kinds: list[str] = Field(["fit"], description="kinds of jobs that this server runs")
    max_attempts: int
    max_json_bytes: int
    max_image_bytes: int
    max_image_pixels: int
    max_images: int = Field(1, description="images in one predict request")
    max_images_bytes: int = Field(0, description="size of all image files of one predict request")
