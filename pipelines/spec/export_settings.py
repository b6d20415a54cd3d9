"""The settings of the export of a model to another runtime. Torch-free."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.records import Split
from pipelines.spec.base import Count, Spec
from pipelines.spec.explain import explain
from pipelines.spec.exported_variant import (
    CALIBRATION_IMAGES,
    PRECISIONS,
    RUNTIME_OF,
    GraphFormat,
    Nms,
    RuntimeName,
    VariantPrecision,
    variant_name,
)

MAX_DROP: dict[VariantPrecision, float] = {"fp32": 0.005, "bf16": 0.005, "int8": 0.01}
"""By how much the main metric of each task may fall, by default."""


class ExportSettings(Spec):
    """The format that a model is exported to, and by how much the export may be worse."""

    to: GraphFormat = Field(description="format of the graph: onnx for ONNX Runtime, or openvino")
    precision: VariantPrecision = Field("fp32", description="bf16: openvino only; int8: quantized after training")
    max_drop: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="by how much the main metric of each task may fall on val; null: 0.005, and 0.01 for int8"
    )
    nms: Nms = Field("outside", description="where overlapping boxes are dropped: after the graph, or in it")
    calibration_images: Count = Field(
        CALIBRATION_IMAGES, description="with int8: images of train that the scales are measured on"
    )
    accuracy_aware: bool = Field(
        False,
        description="with int8 for openvino: keep the layers in float32 that cost most, until the drop is allowed; "
        "this takes many passes over val",
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

    @field_validator("accuracy_aware")
    @classmethod
    def _is_for_integers_of_openvino(cls, is_asked_for: bool, info: ValidationInfo) -> bool:
        found = info.data.get("to", "openvino"), info.data.get("precision", "int8")
        if is_asked_for and found != ("openvino", "int8"):
            raise ValueError(
                "is only possible for the format openvino with the precision int8; change these, or remove it"
            )
        return is_asked_for

    @property
    def runtime(self) -> RuntimeName:
        """The runtime that computes the export."""
        return RUNTIME_OF[self.to]

    @property
    def variant_name(self) -> str:
        """The name of the folder of the export."""
        return variant_name(self.runtime, self.precision)

    @property
    def splits(self) -> Sequence[Split]:
        """The splits that are scored."""
        return ("val", "test") if self.test else ("val",)

    @property
    def allowed_drop(self) -> float:
        """By how much the main metric of each task may fall."""
        return MAX_DROP[self.precision] if self.max_drop is None else self.max_drop


def settings_of_options(options: Mapping[str, Any]) -> ExportSettings:
    """Return the settings that the options of a command line ask for.

    Args:
        options: values by field.

    Raises:
        ConfigError: with one problem for each invalid option.
    """
    try:
        return ExportSettings.model_validate(options)
    except ValidationError as error:
        problems = explain(error, options, ExportSettings)
        named = [FieldProblem(f"--{problem.field.replace('_', '-')}", problem.message) for problem in problems]
        raise ConfigError(named) from error
