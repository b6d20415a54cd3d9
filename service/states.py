"""The states of a job, and the process that may make each transition. Torch-free.

    queued -> starting -> running -> finalizing -> succeeded | failed
    starting | running | finalizing -> failed | cancelling | queued (another attempt)
    cancelling -> cancelled;  queued -> cancelled

Terminal states never change. What a job is doing (`training`, `evaluating` ...) is a field, not a state.
"""

from enum import StrEnum


class JobStatus(StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    FINALIZING = "finalizing"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """True once the job has ended."""
        return self in TERMINAL

    @property
    def is_active(self) -> bool:
        """True while an attempt may be alive and holds its resources."""
        return self in ACTIVE


TERMINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})
ACTIVE = frozenset({JobStatus.STARTING, JobStatus.RUNNING, JobStatus.FINALIZING, JobStatus.CANCELLING})


class Writer(StrEnum):
    """The process that moves a job from one state to another."""

    API = "api"
    SUPERVISOR = "supervisor"


TRANSITIONS: dict[tuple[JobStatus, JobStatus], Writer] = {
    (JobStatus.QUEUED, JobStatus.CANCELLED): Writer.API,
    (JobStatus.QUEUED, JobStatus.STARTING): Writer.SUPERVISOR,
    (JobStatus.STARTING, JobStatus.RUNNING): Writer.SUPERVISOR,
    (JobStatus.RUNNING, JobStatus.FINALIZING): Writer.SUPERVISOR,
    (JobStatus.FINALIZING, JobStatus.SUCCEEDED): Writer.SUPERVISOR,
    (JobStatus.CANCELLING, JobStatus.CANCELLED): Writer.SUPERVISOR,
    **{
        (before, after): Writer.SUPERVISOR
        for before in (JobStatus.STARTING, JobStatus.RUNNING, JobStatus.FINALIZING)
        for after in (JobStatus.FAILED, JobStatus.CANCELLING, JobStatus.QUEUED)
    },
}
"""Every transition, with the one writer that may make it."""


def may_move(writer: Writer, before: JobStatus, after: JobStatus) -> bool:
    """Return True if `writer` may move a job from one state to another."""
    return TRANSITIONS.get((before, after)) is writer


class FailureKind(StrEnum):
    """The reason why a job failed, in one word."""

    CONFIG_INVALID = "config_invalid"
    DATA_INVALID = "data_invalid"
    OUT_OF_MEMORY = "out_of_memory"
    NUMERICS = "numerics"
    DISK_FULL = "disk_full"
    TIMEOUT = "timeout"
    KILLED = "killed"
    INTERNAL = "internal"


FINAL_FAILURES = frozenset(
    {
        FailureKind.CONFIG_INVALID,
        FailureKind.DATA_INVALID,
        FailureKind.OUT_OF_MEMORY,
        FailureKind.NUMERICS,
        FailureKind.TIMEOUT,
    }
)
"""Failures that another attempt would only repeat."""


class SweepStatus(StrEnum):
    """The state of a sweep. It runs until all trials have ended, even if it was cancelled or is failing."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """True once the sweep has ended."""
        return self is not SweepStatus.RUNNING


class TrialState(StrEnum):
    """The state of a sweep's trial."""

    RUNNING = "running"
    PRUNING = "pruning"
    """Its job is being stopped, because the trial is worse than others."""
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_active(self) -> bool:
        """True while its job may be in the queue or running."""
        return self in (TrialState.RUNNING, TrialState.PRUNING)
