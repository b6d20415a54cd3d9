"""Requests and responses about sweeps. Torch-free."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, JsonValue

from service.rest.job_request import ResourcesRequest
from service.rest.schemas import Answer, Page, Request, Resources
from service.states import SweepStatus, TrialState


class SweepRequest(Request):
    """A sweep to start."""

    config: dict[str, JsonValue] = Field(
        description="the document of the sweep; GET /v1/catalog/sweep-schema returns its schema"
    )
    priority: Annotated[int, Field(ge=-100, le=100)] = Field(0, description="priority of the trials' jobs")
    resources: ResourcesRequest = Field(ResourcesRequest(), description="resources of each trial")


class ReportView(Answer):
    """The metric of a trial after an epoch."""

    epoch: int = Field(description="counted from 0")
    value: float | None = Field(description="null if it is undefined")


class TrialView(Answer):
    """A trial of a sweep."""

    number: int = Field(description="counted from 0, in the order of the submission")
    job_id: str | None = Field(description="its job; null if its document was invalid")
    state: TrialState = Field(description="state of the trial; `pruned` if it was stopped because others are better")
    params: dict[str, JsonValue] = Field(description="values of the searched fields, by dotted name")
    value: float | None = Field(description="the metric on val; null unless the trial is complete")
    is_feasible: bool | None = Field(description="whether all constraints are met; null unless it is complete")
    limited: dict[str, float] = Field(description="numbers that constraints limit, by name")
    reports: list[ReportView] = Field(description="the metric after each validation")
    message: str | None = Field(description="the reason of its state; null if there is nothing to explain")
    created_at: datetime = Field(description="time of the submission")
    ended_at: datetime | None = Field(description="null while it is active")


class SweepSummary(Answer):
    """A sweep as shown in lists."""

    id: str = Field(description="id of the sweep, for its URL")
    name: str = Field(description="name in the document, not unique")
    status: SweepStatus = Field(description="state of the sweep")
    message: str | None = Field(description="the reason why it has failed or waits")
    cancel_requested: bool = Field(description="whether somebody has cancelled it")
    priority: int = Field(description="priority of the trials' jobs")
    resources: Resources = Field(description="resources of each trial")
    created_at: datetime = Field(description="time of the submission")
    finished_at: datetime | None = Field(description="null until it has ended")
    mlflow_run_id: str | None = Field(
        description="the parent of the trials' runs in MLflow; null if there is none (yet)"
    )
    tenant: str = Field("local", description="owner; only its keys and admin keys see the sweep")


class BestTrial(Answer):
    """The best trial so far, of those that meet all constraints."""

    number: int = Field(description="number of the trial")
    job_id: str | None = Field(description="its job")
    value: float = Field(description="the metric on val")
    params: dict[str, JsonValue] = Field(description="values of the searched fields")
    document: dict[str, Any] = Field(description="its job document, which `POST /v1/jobs` accepts")


class SweepView(SweepSummary):
    """A sweep with its trials."""

    metric: str = Field(description="the optimized metric")
    direction: str = Field(description="`maximize` or `minimize`")
    num_trials: int = Field(description="number of trials that the document requests")
    best: BestTrial | None = Field(description="null until a trial is complete and meets all constraints")
    trials: list[TrialView] = Field(description="trials in their order")
    config: dict[str, Any] = Field(description="the document of the sweep, with its metric and data set")


class SweepPage(Page):
    """A page of sweeps, newest first."""

    sweeps: list[SweepSummary] = Field(description="sweeps without their trials")


class PlotAxis(Answer):
    """One axis of a parallel-coordinates plot."""

    name: str = Field(description="searched field, or the metric on the last axis")
    log: bool = Field(description="whether the axis is logarithmic")
    ticks: list[str] = Field(description="the choices of an axis without numbers, whose values are their positions")
    low: float = Field(description="value at the lower end")
    high: float = Field(description="value at the upper end")


class PlotLine(Answer):
    """One complete trial in a parallel-coordinates plot."""

    number: int = Field(description="number of the trial")
    values: list[float] = Field(description="a value for each axis")
    is_best: bool = Field(description="whether it is the best trial")
    is_feasible: bool = Field(description="whether it meets all constraints")


class ParallelCoordinates(Answer):
    """A parallel-coordinates plot: an axis for each searched field and for the metric, a line for each trial."""

    axes: list[PlotAxis] = Field(description="from left to right")
    lines: list[PlotLine] = Field(description="complete trials")
