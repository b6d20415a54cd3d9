"""Response bodies with details of one job: its curves and its complete document. Torch-free."""

from typing import Any

from pydantic import Field

from service.rest.schemas import Answer


class Curve(Answer):
    """Numbers with one name by step, as four lists of the same length."""

    steps: list[int] = Field(description="optimizer steps, in ascending order")
    epochs: list[int] = Field(description="epoch of each point, counted from 0")
    times: list[float] = Field(description="time of each point, in seconds since 1970")
    values: list[float] = Field(description="the numbers")


class CurvesOfJob(Answer):
    """Curves of the progress and the metrics of a job."""

    curves: dict[str, Curve] = Field(
        description="by name: `lr` (learning rate), losses and metrics; `train/sum` is the sum of the losses of a step"
    )
    num_omitted: int = Field(description="number of names without a curve, because the job reports too many")
    next_after: int = Field(description="value of `after` for events that are not part of the curves yet")
    is_complete: bool = Field(description="false: the job has many more events; the next request reads on")


class DocumentOfJob(Answer):
    """The complete document of a job."""

    document: dict[str, Any] = Field(description="the document with all defaults")
    differs: list[str] | None = Field(
        description="JSON pointers of the fields that differ from the defaults of the schema, or have none; null if "
        "the document is not valid for this version"
    )
