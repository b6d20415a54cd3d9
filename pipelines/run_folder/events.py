"""events.jsonl: what happens in a run, as one JSON object per line."""

import json
import time
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

TrainerEventKind = Literal["progress", "metric", "stage", "warning"]
"""Kinds of events in the file; the service records `status` events as well."""


class EventPayload(BaseModel):
    """`data` of an event. Fields of newer versions are kept."""

    model_config = ConfigDict(extra="allow", frozen=True)

    def to_data(self) -> dict[str, Any]:
        """Return the payload as plain types, with the fields that were set."""
        return self.model_dump(exclude_unset=True, by_alias=True)


class ProgressData(EventPayload):
    """Progress of the training; learned task weights follow as `balance/<task>`.

    Attributes:
        losses: of the last step, by "train/<task>/<term>".
        lr: the highest learning rate of all parameter groups.
        left_s: estimated seconds until training ends.
        batch: batches of the epoch so far.
        batches: batches of an epoch.
    """

    kind: ClassVar[TrainerEventKind] = "progress"

    losses: dict[str, float]
    lr: float
    images_per_s: float
    left_s: float
    batch: int
    batches: int
    max_epochs: int | None


class WorkData(EventPayload):
    """Progress of work that is counted, such as the images of a batch prediction.

    Attributes:
        done: number of units so far.
        total: number of all units.
        unit: plural noun, such as `images`.
        per_s: units per second since the attempt started.
        left_s: estimated seconds until all units are done; None if that is not known yet.
    """

    kind: ClassVar[TrainerEventKind] = "progress"

    done: int
    total: int
    unit: str
    per_s: float
    left_s: float | None


class MetricData(RootModel[dict[str, int | float | None]]):
    """Scores or statistics by name; None if undefined."""

    kind: ClassVar[TrainerEventKind] = "metric"

    def to_data(self) -> dict[str, Any]:
        """Return the numbers by name."""
        return dict(self.root)


class StageData(EventPayload):
    """The current activity of the run.

    Attributes:
        stage: such as validating_data, training, evaluating, registering, stopped_early.
        message: one sentence.
        trains: parts of the network that are trained from now on.
        parameters: number of trained parameters.
    """

    kind: ClassVar[TrainerEventKind] = "stage"

    stage: str
    message: str | None = None
    trains: list[str] | None = None
    parameters: int | None = None


class WarningData(EventPayload):
    """A warning for the user."""

    kind: ClassVar[TrainerEventKind] = "warning"

    message: str


class StatusData(EventPayload):
    """A change of a job's status, recorded by the service.

    Attributes:
        before: the previous status; None for a new job.
        to: the new status.
        attempt: number of the job's current attempt.
        message: one sentence, such as why the job is queued again.
    """

    model_config = ConfigDict(populate_by_name=True)

    before: str | None = Field(alias="from")
    to: str
    attempt: int
    message: str | None = None


TrainerData = ProgressData | WorkData | MetricData | StageData | WarningData


class TrainerEvent(BaseModel):
    """One line of the file.

    Attributes:
        time: seconds since 1970.
        epoch: counted from 0.
        step: optimizer steps so far.
        data: see the `*Data` class of the kind; also of newer versions, so it is not validated when read.
    """

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    time: float
    kind: TrainerEventKind
    epoch: int
    step: int
    data: dict[str, Any]


def parse_event(content: Any) -> TrainerEvent | None:
    """Return the event of a parsed line; None if it is not an event, or its kind is not known to this version."""
    try:
        return TrainerEvent.model_validate(content)
    except ValueError:
        return None


class EventLog:
    """Appends events to a file; each line is written with one system call, so that readers never see part of a line.

    Without a path (on ranks other than 0) nothing is written.
    """

    def __init__(self, path: Path | None) -> None:
        self._file = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
            self._end_torn_line(path)

    def _end_torn_line(self, path: Path) -> None:
        """End the partial line that a process killed while writing may have left."""
        assert self._file is not None
        if path.stat().st_size:
            with path.open("rb") as file:
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    self._file.write(b"\n")

    def write(self, data: TrainerData, *, epoch: int = 0, step: int = 0) -> None:
        """Append an event with the current time; raises ValueError if a number is not finite."""
        if self._file is None:
            return
        event = {
            "time": round(time.time(), 3),
            "kind": data.kind,
            "epoch": epoch,
            "step": step,
            "data": data.to_data(),
        }
        self._file.write((json.dumps(event, allow_nan=False) + "\n").encode())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def read_events(path: Path) -> list[TrainerEvent]:
    """Return all events of a file; torn lines are skipped."""
    events = []
    for line in path.read_bytes().splitlines():
        try:
            event = parse_event(json.loads(line))
        except ValueError:
            continue
        if event is not None:
            events.append(event)
    return events
