"""Request and response bodies about exports of versions to other runtimes. Torch-free."""

from typing import Annotated

from pydantic import Field

from pipelines.base.names import Name
from pipelines.spec.export_settings import ExportSettings
from pipelines.spec.exported_variant import MetricPair, VariantResult
from service.rest.job_request import ResourcesRequest
from service.rest.schemas import Answer


class VersionExportRequest(ExportSettings):
    """An export of a version, as a job; see also `JobRequest`."""

    name: Name | None = Field(None, description="name of the job; by default the name of the model")
    priority: Annotated[int, Field(ge=-100, le=100)] = Field(0, description="jobs with a higher priority start earlier")
    resources: ResourcesRequest = Field(ResourcesRequest(), description="resources of the job")


class ExportView(Answer):
    """An export of a version, evaluated on its runtime."""

    name: str = Field(description="runtime and precision, such as openvino-int8")
    servable: bool = Field(description="whether the predictor may use it")
    reason: str = Field(description="why it may not be used; empty if it may")
    speedup: float | None = Field(description="how many times as fast as torch float32; null: not measured")
    main_metrics: dict[str, MetricPair] = Field(
        description="the main metric of each task on each split that was scored; `result` has all metrics"
    )
    result: VariantResult = Field(description="what was measured, as in `exports/report.json`")


class ExportList(Answer):
    """The exports of a version."""

    name: str = Field(description="name of the model")
    version: int = Field(description="number of the version")
    exports: list[ExportView] = Field(description="sorted by name")
