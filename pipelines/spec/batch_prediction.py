"""The document of a batch prediction, and the schema of its result. Torch-free."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, ValidationError, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from pipelines.base.errors import ConfigError
from pipelines.base.names import Name
from pipelines.base.paths import RelativePath
from pipelines.spec.base import Count, Probability, Spec
from pipelines.spec.explain import explain
from pipelines.tasks.kinds import KindName
from pipelines.tasks.thresholds import VALID_THRESHOLDS

ModelName = Annotated[str, Field(min_length=1, max_length=256)]
Number = Annotated[int, Field(ge=0)]


def _checked_threshold(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Return a valid threshold; raises one ValueError for both members of the union."""
    try:
        return check(value)
    except ValidationError:
        raise ValueError(f"got {value!r}; {VALID_THRESHOLDS}") from None


class PredictionSettings(Spec):
    """The images of a batch prediction, and what is kept of the answers."""

    alias: str | None = Field(None, description="alias of the version, which is replaced by its number at submission")
    version: Annotated[int, Field(ge=1, lt=2**31)] | None = Field(None, description="version of the model")
    folder: RelativePath | None = Field(
        None, description="folder of the images, below a data root; with `dataset`: below the files of the data set"
    )
    dataset: str | None = Field(None, description="version of a data set, NAME@VERSION: all images in it")
    threshold: Annotated[Probability | Literal["best"] | None, WrapValidator(_checked_threshold)] = Field(
        None, description="keep only what has a score above it; best: the threshold of each class with the highest F1"
    )
    classes: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(None, description="keep only these classes")
    on_error: Literal["skip", "fail"] = Field(
        "skip", description="skip: list an image that cannot be read, and continue; fail: end the job"
    )
    batch_size: Count = Field(8, description="images at once")


class BatchPredictionSpec(PredictionSettings):
    """One batch prediction: a registered model, the images, and what is kept of the answers."""

    name: Name | None = Field(None, description="name of the job; by default the name of the model")
    model: ModelName = Field(description="registered model")

    @model_validator(mode="after")
    def _images_are_named(self) -> "BatchPredictionSpec":
        if self.folder is None and self.dataset is None:
            raise ValueError("folder: missing; name a folder below a data root, or a `dataset`")
        return self

    @model_validator(mode="after")
    def _version_is_named_once(self) -> "BatchPredictionSpec":
        if self.alias is not None and self.version is not None:
            raise ValueError(f"alias: got {self.alias!r} and the version {self.version}; pass only one of them")
        return self


def validate_batch_prediction(document: Mapping[str, Any]) -> BatchPredictionSpec:
    """Return the validated document; raises ConfigError with one problem for each invalid field."""
    try:
        return BatchPredictionSpec.model_validate(document)
    except ValidationError as error:
        raise ConfigError(explain(error, document, BatchPredictionSpec)) from error


class FailedImage(Spec):
    """An image without a prediction; `file` is relative to the folder of the images."""

    file: str
    reason: str


class BatchImageCounts(Spec):
    """Images of a batch prediction; `damaged` ones were read and predicted, with a warning."""

    total: Number
    predicted: Number
    failed: Number
    damaged: Number


class PredictedTask(Spec):
    """The predictions of one task; `files` are paths in the run folder, `num_rows` objects, or images without rows."""

    kind: KindName
    num_rows: Number
    files: tuple[str, ...]


class BatchPredictionResult(Spec):
    """Schema of result.json of a batch prediction."""

    schema_version: Literal[1] = 1
    kind: Literal["batch_prediction"] = "batch_prediction"
    model: str
    version: int
    images: BatchImageCounts
    failed: tuple[FailedImage, ...] = Field(description="at most the first 1000; images.csv lists all")
    tasks: dict[str, PredictedTask]
    settings: dict[str, JsonValue] = Field(description="the document")
    versions: dict[str, str]
