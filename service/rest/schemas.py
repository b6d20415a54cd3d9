"""What goes over REST, apart from the job document (`pipelines.spec.job`) and results (`pipelines.spec.result`).

Torch-free. The client reads answers with the same classes.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from service.states import FailureKind, JobStatus
from service.store.records import EventKind, Outcome


class Answer(BaseModel):
    """What the server says."""

    model_config = ConfigDict(frozen=True)


class Request(BaseModel):
    """What a client says: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ResourcesRequest(Request):
    """What a job may use; what is left out is the server's default."""

    cpus: Annotated[int, Field(ge=1)] | None = Field(None, description="cores, and threads of the trainer")
    gpus: Annotated[int, Field(ge=0)] | None = None
    timeout_s: Annotated[float, Field(gt=0)] | None = Field(None, description="from the first attempt's start")


class JobRequest(Request):
    """A job to be run."""

    config: dict[str, JsonValue] = Field(description="the job document, see GET /v1/catalog/schema")
    priority: Annotated[int, Field(ge=-100, le=100)] = Field(0, description="higher ones start earlier")
    resources: ResourcesRequest = ResourcesRequest()


class PriorityRequest(Request):
    """A job's new place in the queue."""

    priority: Annotated[int, Field(ge=-100, le=100)]


class Resources(Answer):
    """What a job uses while it runs."""

    cpus: int
    gpus: int
    timeout_s: float | None


class Progress(Answer):
    """Where training is; losses are of the last step told."""

    epoch: int
    step: int
    max_epochs: int | None = None
    batch: int | None = None
    batches: int | None = None
    losses: dict[str, float] = {}
    lr: float | None = None
    images_per_s: float | None = None
    left_s: float | None = Field(None, description="seconds of training left, estimated")


class Failure(Answer):
    """Why a job has failed."""

    kind: FailureKind
    message: str = Field(description="one sentence")
    log_tail: list[str] = Field(description="the last lines of the last attempt's log")


class AttemptView(Answer):
    """One try at a job."""

    number: int
    started_at: datetime
    ended_at: datetime | None
    outcome: Outcome | None
    exit_code: int | None = Field(description="negative: the signal that ended it")
    message: str | None
    gpu_ids: list[str]


class JobSummary(Answer):
    """A job, as in lists."""

    id: str
    name: str
    status: JobStatus
    stage: str | None = Field(description="what the running attempt does")
    priority: int
    resources: Resources
    progress: Progress | None
    attempt: int = Field(description="number of the current or last attempt; 0: none yet")
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    mlflow_run_id: str | None
    retry_of: str | None


class JobView(JobSummary):
    """A job with all that is known of it."""

    waits_for: str | None = Field(description="why a queued job does not run yet")
    failure: Failure | None
    attempts: list[AttemptView]
    config: dict[str, Any] = Field(description="the document as it was submitted")


class JobPage(Answer):
    """Some jobs, newest first."""

    jobs: list[JobSummary]
    next_cursor: str | None = Field(description="null: these were the last")


class EventView(Answer):
    """One thing that happened to a job."""

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
    next_after: int = Field(description="hand this to the next call as `after`")
    is_over: bool = Field(description="the job has ended, and nothing comes after these")


class LogLine(Answer):
    """One line of a log."""

    attempt: int
    offset: int = Field(description="byte of the attempt's log behind this line: hand it back as `after`")
    text: str


class StageParameters(Answer):
    """Parameters of one part of the network."""

    stage: str
    parameters: int


class TrainableFrom(Answer):
    """What trains from an epoch on."""

    epoch: int
    stages: list[str]
    parameters: int


class DryRun(Answer):
    """What a job would be: nothing is stored, nothing trained."""

    config: dict[str, Any] = Field(description="the document with every default")
    resources: Resources
    data_report: dict[str, Any]
    stages: list[StageParameters]
    trainable: list[TrainableFrom]


class Artifact(Answer):
    """A file of a job's run folder."""

    path: str
    size_bytes: int
    sha256: str
    modified_at: datetime


class ArtifactList(Answer):
    """All files of a job's run folder."""

    artifacts: list[Artifact]


class ProblemField(Answer):
    """One thing that is wrong in a request."""

    pointer: str = Field(description="RFC 6901, into the request's body; empty: the whole")
    detail: str


class ProblemDetails(Answer):
    """RFC 9457: why a request was refused."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[ProblemField] = []


class Alive(Answer):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Check(Answer):
    """One thing that the service needs."""

    name: str
    is_ok: bool
    detail: str


class Readiness(Answer):
    """Whether jobs can be taken and run."""

    is_ready: bool
    checks: list[Check]


class Capabilities(Answer):
    """What this server is, and what one job, one body and one image may have."""

    version: str
    cpus: int = Field(description="cores that jobs may use in all")
    gpus: int = Field(description="GPUs that jobs may use in all")
    default_cpus: int = Field(description="of a job that asks for none")
    default_gpus: int = Field(description="of a job that asks for none")
    max_attempts: int
    max_json_bytes: int
    max_image_bytes: int
    max_image_pixels: int
