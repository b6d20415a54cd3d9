"""The state of an attempt, from the state of its Ray job and from the files in its folder."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from pipelines.run_folder.layout import ATTEMPT_DIR_VARIABLE, AttemptDir
from service.executors.base import Observation
from service.executors.ray.order import OrderFile

FOLDER_KEY = ATTEMPT_DIR_VARIABLE
"""The key in the metadata of a Ray job that names the folder of its attempt."""
KILL_SUFFIX = "-kill"
SWEPT = 3
"""Exit code of a driver that has killed the remaining processes of its attempt, because its shim was killed."""
NO_ORDER = 4
"""Exit code of a driver that could not fetch the order of its attempt, and has written the reason to its log."""
END_SLACK_S = 5.0
"""Time that a shim has, beyond the grace period, to write exit.json after its driver has ended."""
ISOLATED_S = 65.0
"""Time after which no raylet runs any more that has lost contact to the head: Ray's own limit is 60 s."""


class RayState(StrEnum):
    """The states of a Ray job."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class RayJob:
    """A job in Ray's table.

    Attributes:
        submission_id: its name, chosen by whoever submitted it.
        state: its state.
        node_id: the node that runs or ran its driver; None until it has started.
        folder: the folder of the attempt in its metadata; None for jobs of others.
        message: Ray's explanation of the state.
        end_time_ms: its end in milliseconds since 1970; None before.
        exit_code: exit code of its entrypoint; None if it has none.
    """

    submission_id: str
    state: RayState
    node_id: str | None = None
    folder: Path | None = None
    message: str = ""
    end_time_ms: int | None = None
    exit_code: int | None = None

    @property
    def has_ended(self) -> bool:
        return self.state not in (RayState.PENDING, RayState.RUNNING)

    @property
    def is_swept(self) -> bool:
        """True if its driver has killed the remaining processes of the attempt."""
        return self.has_ended and self.exit_code == SWEPT

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self | None:
        """Return a row of Ray's list of jobs; None for a program that was not submitted as a job."""
        if not row.get("submission_id"):
            return None
        folder = (row.get("metadata") or {}).get(FOLDER_KEY)
        return cls(
            row["submission_id"],
            RayState(row["status"]),
            row.get("driver_node_id"),
            Path(folder) if folder else None,
            row.get("message") or "",
            row.get("end_time"),
            row.get("driver_exit_code"),
        )


@dataclass(frozen=True)
class AttemptProgress:
    """The progress of an attempt, from the files in its folder.

    Attributes:
        is_ordered: a driver can still take its order.
        has_started: a driver has taken its order.
    """

    is_ordered: bool
    has_started: bool

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Read the folder; raises OSError."""
        order = OrderFile(folder)
        # In the order in which a driver changes them, so that no moment looks as if nothing had happened.
        is_ordered, is_taken = order.is_waiting, order.is_taken
        return cls(is_ordered, is_taken or AttemptDir(folder).run_json.exists())


def submission_id(folder: Path) -> str:
    """Return the name of the Ray job of an attempt, by its resolved folder `<job>/attempts/<number>`.

    It is the same in each process, so that Ray refuses to run an attempt twice. A part of the folder's digest separates
    services that share a cluster.
    """
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
    return f"pyramidion-{folder.parents[1].name}-{folder.name}-{digest}"


def observed(progress: AttemptProgress, job: RayJob | None, silent_s: float, grace_s: float) -> Observation:
    """Return the state of an attempt that has written no exit.json.

    Args:
        progress: from its folder.
        job: its Ray job; None if Ray does not know it.
        silent_s: time since its Ray job was first seen to have ended or to be unknown.
        grace_s: the grace period.
    """
    if job is None:
        if not progress.has_started:
            return Observation("absent")
        return Observation("alive" if silent_s < ISOLATED_S + grace_s else "lost")
    if not job.has_ended:
        if progress.has_started:
            return Observation("alive")
        if progress.is_ordered:
            # The driver of several nodes runs while it waits for their resources.
            return Observation("pending")
        # Without its order, the job can never run its attempt.
        return Observation("alive" if job.state is RayState.RUNNING else "lost")
    if not progress.has_started:
        if job.exit_code == NO_ORDER:
            return Observation("lost", reason=job.message.rstrip().rpartition("\n")[2])
        # Ray has given up before a driver ran, which is no failure of the attempt.
        return Observation("absent" if progress.is_ordered else "lost")
    if job.is_swept:
        return Observation("lost")
    # The shim ends the attempt with a checkpoint when its driver has been killed.
    return Observation("alive" if silent_s < grace_s + END_SLACK_S else "lost")
