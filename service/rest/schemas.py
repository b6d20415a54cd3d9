"""Request and response bodies, except the job document (`pipelines.spec.job`) and results (`pipelines.spec.result`).

Torch-free. The client reads responses with the same classes.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.states import FailureKind, JobStatus, TrialState
from service.store.records import EventKind, Outcome


class Answer(BaseModel):
    """Base of response bodies."""

    model_config = ConfigDict(frozen=True)


class Request(BaseModel):
    """Base of request bodies; unknown keys are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Page(Answer):
    """Base of the pages of lists."""

    next_cursor: str | None = Field(description="value of `cursor` for the next page; null on the last page")


class PriorityRequest(Request):
    """A new priority of a job."""

    priority: Annotated[int, Field(ge=-100, le=100, description="jobs with a higher priority start earlier")]


class Resources(Answer):
    """Resources that a job uses while it runs."""

    cpus: int = Field(description="CPU cores of each node")
    gpus: int = Field(description="number of GPUs of each node")
    gpu_type: str | None = Field(None, description="type of the GPUs; null: any")
    nodes: int = Field(1, description="number of nodes, `trainer.num_nodes` of the document")
    timeout_s: float | None = Field(description="maximum seconds from the start of the first attempt; null: unlimited")


class Progress(Answer):
    """Progress of a job: of a training with the losses of the last reported step, or of work that is counted."""

    epoch: int = Field(description="counted from 0")
    step: int = Field(description="number of optimizer steps so far")
    max_epochs: int | None = Field(None, description="number of epochs of the training")
    batch: int | None = Field(None, description="number of batches of this epoch so far")
    batches: int | None = Field(None, description="number of batches of an epoch")
    losses: dict[str, float] = Field({}, description="values by name")
    lr: float | None = Field(None, description="learning rate")
    images_per_s: float | None = Field(None, description="training images per second")
    left_s: float | None = Field(None, description="estimated remaining seconds of training, or of the counted work")
    done: int | None = Field(None, description="units of counted work that are done, such as images")
    total: int | None = Field(None, description="all units of counted work; null for a training")
    unit: str | None = Field(None, description="the unit of counted work, such as `images`")
    per_s: float | None = Field(None, description="units per second")


class Failure(Answer):
    """The reason why a job failed."""

    kind: FailureKind = Field(description="the reason in one word")
    message: str = Field(description="the reason in one sentence")
    advice: str = Field("", description="what to do, in one sentence")
    log_tail: list[str] = Field(description="last lines of the last attempt's log")


class AttemptView(Answer):
    """One attempt to run a job."""

    number: int = Field(description="counted from 1")
    started_at: datetime = Field(description="start of its processes")
    ended_at: datetime | None = Field(description="null while it runs")
    outcome: Outcome | None = Field(description="null while it runs")
    exit_code: int | None = Field(description="if negative, the signal that terminated the trainer")
    message: str | None = Field(description="the reason of its end; null if it succeeded")
    gpu_ids: list[str] = Field(description="GPUs that it uses")


class JobSummary(Answer):
    """A job as shown in lists."""

    id: str = Field(description="id of the job, for its URL")
    name: str = Field(description="name in the document, not unique")
    kind: str = Field("fit", description="what the job does, such as `fit`")
    status: JobStatus = Field(description="state of the job")
    stage: str | None = Field(description="current activity of the running attempt")
    priority: int = Field(description="queued jobs with a higher priority start earlier")
    resources: Resources = Field(description="resources while it runs")
    progress: Progress | None = Field(description="null before the first report")
    attempt: int = Field(description="number of the current or last attempt; 0 before the first one")
    cancel_requested: bool = Field(description="whether somebody has cancelled it")
    created_at: datetime = Field(description="time of the submission")
    started_at: datetime | None = Field(description="start of the first attempt; null before it")
    finished_at: datetime | None = Field(description="null until it has ended")
    mlflow_run_id: str | None = Field(description="its run in MLflow; null if there is none (yet)")
    retry_of: str | None = Field(description="id of the job that it repeats")
    tenant: str = Field("local", description="owner; only its keys and admin keys see the job")


class TrialOfJob(Answer):
    """The trial of a sweep that a job runs."""

    sweep_id: str = Field(description="id of the sweep")
    number: int = Field(description="number of the trial, counted from 0")
    state: TrialState = Field(description="state of the trial; `pruned` if it was stopped because others are better")
    message: str | None = Field(description="the reason of its state")


class JobView(JobSummary):
    """A job with all details."""

    dataset: str | None = Field(None, description="the version of a data set that the job uses, NAME@VERSION")
    trial: TrialOfJob | None = Field(None, description="null unless a sweep has submitted the job")
    waits_for: str | None = Field(description="the reason why a queued job has not started yet")
    mlflow_url: str | None = Field(None, description="page of its run in MLflow; null if MLflow has no web address")
    failure: Failure | None = Field(description="null unless it has failed")
    attempts: list[AttemptView] = Field(description="oldest first")
    config: dict[str, Any] = Field(description="the document as it was submitted")


class JobPage(Page):
    """A page of jobs, newest first."""

    jobs: list[JobSummary] = Field(description="jobs without their documents")


class EventView(Answer):
    """An event of a job."""

    seq: int = Field(description="sequence number, which increases over all jobs")
    time: datetime = Field(description="time of the event")
    kind: EventKind = Field(description="kind of the event")
    attempt: int = Field(description="number of the attempt; 0 before the first one")
    epoch: int = Field(description="counted from 0")
    step: int = Field(description="number of optimizer steps so far")
    data: dict[str, Any] = Field(description="content, by the kind of the event")


class EventPage(Answer):
    """Events after a sequence number."""

    events: list[EventView] = Field(description="in the order of their sequence numbers")
    next_after: int = Field(description="value of `after` for the next request")
    is_over: bool = Field(description="true if the job has ended and no more events will follow")


class LogLine(Answer):
    """A line of a log."""

    attempt: int = Field(description="number of the attempt")
    offset: int = Field(
        description="byte offset in the attempt's log after this line; value of `after` to continue here"
    )
    text: str = Field(description="the line without colors and without its line break")


class StageParameters(Answer):
    """Number of parameters of one part of the network."""

    stage: str = Field(description="name of the part")
    parameters: int = Field(description="number of its parameters")


class TrainableFrom(Answer):
    """The parts of the network that train from an epoch on."""

    epoch: int = Field(description="counted from 0")
    stages: list[str] = Field(description="names of the parts")
    parameters: int = Field(description="number of their parameters")


class DryRun(Answer):
    """Report on what a job would train; nothing is stored or trained."""

    config: dict[str, Any] = Field(description="the document with all defaults filled in")
    resources: Resources = Field(description="resources of the job")
    data_report: dict[str, Any] = Field(description="summary of the data check")
    stages: list[StageParameters] = Field(description="parts of the network, from the image on")
    trainable: list[TrainableFrom] = Field(description="a row for each epoch in which parts start to train")
    precision: str | None = Field(None, description="of training on this machine; null if it lacks the device")


class Artifact(Answer):
    """A file of a job's run folder."""

    path: str = Field(description="relative to the run folder, see `GET .../artifacts/{path}`")
    size_bytes: int = Field(description="size of the file")
    sha256: str = Field(description="hexadecimal")
    modified_at: datetime = Field(description="last change")


class ArtifactList(Answer):
    """All files of a job's run folder."""

    artifacts: list[Artifact] = Field(description="sorted by path")


class PredictionFile(Answer):
    """A file with the predictions of a job for one task."""

    task: str = Field(description="name of the task")
    url: str = Field(description="path of the file on this server")
    media_type: str = Field(description="format of the file")
    size_bytes: int = Field(description="size of the file")
    sha256: str = Field(description="hexadecimal")


class PredictionFiles(Answer):
    """All files with predictions of a job."""

    files: list[PredictionFile] = Field(description="by format and task")


class ProblemField(Answer):
    """One invalid value in a request."""

    pointer: str = Field(description="RFC 6901 pointer into the request body; empty for the whole body")
    detail: str = Field(description="the value, what is wrong with it, and what would be right")


class ProblemDetails(Answer):
    """An error response (RFC 9457)."""

    type: str = Field("about:blank", description="always about:blank: the status says everything")
    title: str = Field(description="kind of the problem")
    status: int = Field(description="status of the response")
    detail: str = Field(description="what is wrong, and what to do")
    errors: list[ProblemField] = Field([], description="invalid values of the request, at most 100")


class Alive(Answer):
    """The API process answers."""

    status: Literal["alive"] = Field("alive", description="always `alive`")


class Check(Answer):
    """State of one requirement of the service."""

    name: str = Field(description="what was checked")
    is_ok: bool = Field(description="whether it was found in order")
    detail: str = Field(description="what was found")


class Readiness(Answer):
    """Ability of the service to accept and run jobs."""

    is_ready: bool = Field(description="whether all checks are in order")
    checks: list[Check] = Field(description="all checks")


class Capabilities(Answer):
    """Version, resources and limits of this server."""

    version: str = Field(description="version of the program")
    cpus: int = Field(description="CPU cores that all jobs may use together")
    gpus: int = Field(description="GPUs that all jobs may use together")
    gpu_types: dict[str, int] = Field({}, description="number of GPUs of each type that a job may request")
    nodes: int = Field(1, description="largest number of nodes of one job")
    default_cpus: int = Field(description="CPU cores of a job that requests none")
    default_gpus: int = Field(description="GPUs of a job that requests none")
    job_kinds: list[str] = Field(["fit"], description="kinds of jobs that this server runs")
    max_attempts: int = Field(description="failed attempts after which a job fails")
    max_json_bytes: int = Field(description="size of a JSON body")
    max_image_bytes: int = Field(description="size of an uploaded image file")
    max_image_pixels: int = Field(description="pixels of an uploaded image")
    max_images: int = Field(1, description="images in one predict request")
    max_images_bytes: int = Field(0, description="size of all image files of one predict request")
