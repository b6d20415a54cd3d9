"""The document of a job that exports a registered version to another runtime, and its result. Torch-free."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, ValidationError

from pipelines.base.errors import ConfigError
from pipelines.base.names import Name
from pipelines.base.paths import RelativePath
from pipelines.spec.base import Spec
from pipelines.spec.batch_prediction import ModelName
from pipelines.spec.explain import explain
from pipelines.spec.export_settings import ExportSettings
from pipelines.spec.exported_variant import VariantResult


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
