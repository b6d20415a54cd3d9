"""The document of a job that exports a registered version to another runtime, and its result. Torch-free."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, ValidationError, ValidationInfo, field_validator

from pipelines.base.errors import ConfigError
from pipelines.base.names import Name
from pipelines.base.paths import RelativePath
from pipelines.spec.base import Count, Spec
from pipelines.spec.batch_prediction import ModelName
from pipelines.spec.explain import explain
from pipelines.spec.exported_variant import (
    CALIBRATION_IMAGES,
    PRECISIONS,
    RUNTIME_OF,
    GraphFormat,
    Nms,
    VariantPrecision,
    VariantResult,
)


class ExportSettings(Spec):
    """The format that a version is exported to, and by how much the export may be worse."""

    to: GraphFormat = Field(description="format of the graph: onnx for ONNX Runtime, or openvino")
    precision: VariantPrecision = Field("fp32", description="bf16: openvino only; int8: quantized after training")
    max_drop: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="by how much the main metric of each task may fall on val; null: 0.005, and 0.01 for int8"
    )
    nms: Nms = Field("outside", description="where overlapping boxes are dropped: after the graph, or in it")
    calibration_images: Count = Field(
        CALIBRATION_IMAGES, description="with int8: images of train that the scales are measured on"
    )
    test: bool = Field(False, description="score test, too; the decision is that of val")

    @field_validator("precision")
    @classmethod
    def _is_computed_by_the_runtime(cls, precision: str, info: ValidationInfo) -> str:
        if "to" not in info.data:
            return precision  # the field `to` is the problem
        choices = PRECISIONS[RUNTIME_OF[info.data["to"]]]
        if precision not in choices:
            raise ValueError(f"got {precision!r}; exports to {info.data['to']} are {' or '.join(choices)}")
        return precision


class VersionExportSpec(ExportSettings):
    """One export of a registered version."""

    name: Name | None = Field(None, description="name of the job; by default the name of the model")
    model: ModelName = Field(description="registered model")
    version: Annotated[int, Field(ge=1, lt=2**31)] = Field(description="version of the model")
    dataset: str | None = Field(
        None, description="the data set that the version was trained on, if any, as its own document names it"
    )
    root: RelativePath | None = Field(None, description="the files of the data set, set by the service")


def validate_version_export(document: Mapping[str, Any]) -> VersionExportSpec:
    """Return the validated document; raises ConfigError with one problem for each invalid field."""
    try:
        return VersionExportSpec.model_validate(document)
    except ValidationError as error:
        raise ConfigError(explain(error, document, VersionExportSpec)) from error


class VersionExportResult(Spec):
    """Schema of result.json of an export. The job has succeeded also if the export may not be served."""

    schema_version: Literal[1] = 1
    kind: Literal["export"] = "export"
    model: str
    version: int
    export: VariantResult
    settings: dict[str, JsonValue] = Field(description="the document")
    versions: dict[str, str]
