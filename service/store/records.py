"""Rows of the database as values. Torch-free."""

from dataclasses import dataclass
from typing import Any, Literal

from service.principal import LOCAL_TENANT
from service.resources import CPUS, GPUS, ResourceCounts, on_nodes
from service.states import JobStatus
from service.store.dataset_records import JobImages

EventKind = Literal["status", "progress", "metric", "stage", "warning"]
Outcome = Literal["succeeded", "stopped", "failed", "lost", "cancelled"]


@dataclass(frozen=True)
class NewJob:
    """A job that was checked and can be put into the queue; `cpus` and `gpus` are those of each of its nodes."""

    name: str
    config: dict[str, Any]
    priority: int
    cpus: int
    gpus: int
    timeout_s: float | None = None
    retry_of: str | None = None
    kind: str = "fit"
    dataset_id: str | None = None
    tenant: str | None = None
    """The owner; None is the tenant of the submitter."""
    images: JobImages | None = None
    """The data set of a job with which its images are uploaded; `dataset_id` is None then."""
    num_nodes: int = 1
    gpu_type: str | None = None


@dataclass(frozen=True)
class Job:
    """A row of `jobs` without its document; see `tables.jobs`. `cpus` and `gpus` are those of each node."""

    number: int
    id: str
    name: str
    status: JobStatus
    stage: str | None
    priority: int
    cpus: int
    gpus: int
    timeout_s: float | None
    retry_of: str | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    cancel_requested_at: float | None
    not_before: float
    attempt: int
    failures: int
    lease_owner: str | None
    progress: dict[str, Any] | None
    events_offset: int
    failure_kind: str | None
    failure_message: str | None
    mlflow_run_id: str | None
    mlflow_status: str | None
    kind: str = "fit"
    tenant: str = LOCAL_TENANT
    key_id: str | None = None
    num_nodes: int = 1
    gpu_type: str | None = None

    @property
    def resources(self) -> ResourceCounts:
        """The resources that the job holds on all of its nodes while it is active."""
        return on_nodes({CPUS: self.cpus, GPUS: self.gpus}, self.num_nodes)

    @property
    def is_settled(self) -> bool:
        """True once the job has ended and its MLflow run, if any, has its final status: nothing writes to it again."""
        return self.status.is_terminal and (self.mlflow_run_id is None or self.mlflow_status is not None)


@dataclass(frozen=True)
class AttemptRecord:
    """A row of `attempts`."""

    job_id: str
    number: int
    lease_owner: str
    gpu_ids: tuple[str, ...]
    started_at: float
    ended_at: float | None
    outcome: Outcome | None
    exit_code: int | None
    message: str | None
    host: str | None
    root: str | None
    boot_id: str | None
    started_uptime_s: float | None


@dataclass(frozen=True)
class SupervisorLease:
    """The row of the active supervisor.

    Attributes:
        owner: the supervisor that holds the lease; None once it has ended in an orderly manner.
        beat: counts the renewals. A lease whose beat does not change any more has expired.
        beat_at: time of the last renewal by the owner's clock. It is for people: clocks of two hosts differ.
        locked_root: the root whose lock file the owner holds, which the kernel releases when the owner dies.
    """

    owner: str | None
    beat: int
    beat_at: float
    host: str
    pid: int
    locked_root: str | None


@dataclass(frozen=True)
class Event:
    """A row of `events`; `seq` is its place in the total order that `store.event_log` promises."""

    seq: int
    job_id: str
    attempt: int
    time: float
    kind: EventKind
    epoch: int
    step: int
    data: dict[str, Any]
