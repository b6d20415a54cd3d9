"""Files of a run folder that connect the run with MLflow: tracking.json and the entries of tracking_buffer.jsonl."""

import json
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from pipelines.run_folder.schemas import FileSchema

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]
"""Final status of an MLflow run."""


class TrackingState(FileSchema):
    """tracking.json: the MLflow run of a run folder.

    Attributes:
        tracking_uri: address of the MLflow store, without credentials.
        key: value of a tag by which the run is found again if its id was not recorded.
        run_id: None until the run is known.
    """

    tracking_uri: str | None = None
    key: str | None = None
    run_id: str | None = None


class BatchEntry(FileSchema):
    """Parameters, tags or metrics that fit one request; a metric is (name, value, time in ms since 1970, step)."""

    kind: Literal["batch"]
    params: dict[str, str] = Field(default_factory=dict)
    tags: dict[str, str] = Field(default_factory=dict)
    metrics: list[tuple[str, float, int, int]] = Field(default_factory=list)


class ArtifactEntry(FileSchema):
    """A file or folder to upload.

    Attributes:
        path: relative to the run folder.
        folder: of the run's artifacts; empty: the top, or for a folder its own name.
    """

    kind: Literal["artifact"]
    path: str
    folder: str = ""


class DatasetEntry(FileSchema):
    """A split of the data as input of the run.

    Attributes:
        name: name of the data set.
        digest: of the content of the split.
        source: the data root, as a path.
        context: the split.
        profile: counts, as JSON.
    """

    kind: Literal["dataset"]
    name: str
    digest: str
    source: str
    context: str
    profile: str


class StatusEntry(FileSchema):
    """A new status of the run, with the time in ms since 1970."""

    kind: Literal["status"]
    status: Literal["RUNNING"] | RunStatus
    time_ms: int


JournalEntry = BatchEntry | ArtifactEntry | DatasetEntry | StatusEntry

_ENTRY: TypeAdapter[JournalEntry] = TypeAdapter(Annotated[JournalEntry, Field(discriminator="kind")])


def parse_entry(line: bytes) -> JournalEntry | None:
    """Return the entry of a line; None for a torn line, or a kind of entry that this version does not know."""
    try:
        content: Any = json.loads(line)
        return _ENTRY.validate_python(content)
    except ValueError:
        return None
