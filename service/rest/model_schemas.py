"""Request and response bodies of registered models and predictions. Torch-free."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import AfterValidator, Field, WithJsonSchema, create_model
from pydantic_core import PydanticCustomError

from pipelines.base.names import Name
from pipelines.spec.batch_prediction import PredictionSettings
from pipelines.tasks.kinds import answer_fields
from pipelines.tasks.thresholds import BEST, VALID_THRESHOLDS, read_threshold
from service.rest.job_request import ResourcesRequest
from service.rest.schemas import Answer, ProblemDetails, Request


class ModelSummary(Answer):
    """A registered model as shown in lists."""

    name: str = Field(description="name of the model")
    aliases: dict[str, int] = Field(description="version that each alias points to")
    latest_version: int | None = Field(description="null if the model has no versions")


class ModelList(Answer):
    """All registered models."""

    models: list[ModelSummary] = Field(description="sorted by name")


class ArchiveView(Answer):
    """The archive of a version, as `GET .../archive` returns it."""

    sha256: str = Field(description="hexadecimal")
    size_bytes: int = Field(description="size of the tar archive")


class PromotionDecision(Answer):
    """The decision of a run whether its version becomes the champion."""

    promote_if: str = Field(description="the rule of the document, `tracking.promote_if`")
    metric: str = Field(description="metric that decides")
    is_promoted: bool = Field(description="whether the version became the champion")
    reason: str = Field(
        description="`first`, `stored` or `scored` (compared with the champion's metric), `undefined`, `unsure` (the "
        "interval contains zero), `no_interval`, `by_hand`"
    )
    value: float | None = Field(description="metric of the version")
    champion: int | None = Field(description="the champion before the decision")
    champion_value: float | None = Field(description="metric of that champion")
    low: float | None = Field(description="lower end of the 95 % interval of the difference; null: not computed")
    high: float | None = Field(description="upper end of the interval")


class ModelVersionView(Answer):
    """A version of a model, and its origin."""

    version: int = Field(description="number of the version")
    created_at: datetime = Field(description="time of the registration")
    aliases: list[str] = Field(description="aliases that point to the version")
    run_id: str | None = Field(description="MLflow run that registered it")
    job_id: str | None = Field(description="job that trained it; null if it was not trained by this service")
    select: str | None = Field(description="metric that decides which version becomes champion")
    val_fingerprint: str | None = Field(description="identifies the val data; metrics are comparable if it is equal")
    val_metrics: dict[str, float] = Field(description="metrics of the best checkpoint on val, by name")
    archive: ArchiveView | None = Field(None, description="null for versions of older programs")
    promotion: PromotionDecision | None = Field(None, description="null for versions of older programs")


class ModelView(ModelSummary):
    """A registered model with all its versions, newest first."""

    versions: list[ModelVersionView] = Field(description="newest first")


class BatchPredictionRequest(PredictionSettings):
    """Images to predict as a job, by default with the version of the alias `champion`; see also `JobRequest`."""

    name: Name | None = Field(None, description="name of the job; by default the name of the model")
    priority: Annotated[int, Field(ge=-100, le=100)] = Field(0, description="jobs with a higher priority start earlier")
    resources: ResourcesRequest = Field(ResourcesRequest(), description="resources of the job")


class AliasRequest(Request):
    """The new version of an alias."""

    version: int = Field(ge=1, le=2**31 - 1, description="number of the version")
    reason: str = Field("", max_length=1000, description="why the alias moves, for the history of the model")


class AliasView(Answer):
    """An alias and the version it points to."""

    name: str = Field(description="name of the model")
    alias: str = Field(description="name of the alias")
    version: int = Field(description="number of the version that it points to")


class ImageSize(Answer):
    """Size of the original image in pixels."""

    width: int = Field(description="in pixels")
    height: int = Field(description="in pixels")


def _is_threshold(text: str) -> str:
    try:
        read_threshold(text)
    except ValueError as error:
        raise PydanticCustomError("threshold", VALID_THRESHOLDS) from error
    return text


ThresholdText = Annotated[
    str,
    AfterValidator(_is_threshold),
    WithJsonSchema({"anyOf": [{"const": BEST, "type": "string"}, {"type": "number", "minimum": 0, "maximum": 1}]}),
]
"""A threshold as the value of a query parameter."""


if TYPE_CHECKING:
    TaskPrediction: TypeAlias = Answer
else:
    TaskPrediction = create_model(
        "TaskPrediction",
        __base__=Answer,
        __module__=__name__,
        __doc__="""The prediction of one task; the kind of the task decides which field is present.""",
        **answer_fields(),
    )


IMAGE_POINTER = "/image"
"""Pointer of a problem that is about one image."""
VERSION_HEADER = "Model-Version"
RUNTIME_HEADER = "Model-Runtime"
"""What computed a prediction: `torch`, `torch-bf16`, or the name of an export such as `openvino-int8`."""
WARNINGS_HEADER = "Prediction-Warnings"
"""The field `warnings` of a prediction as a JSON list in ASCII, of a response that is a picture."""


class PredictionView(Answer):
    """The prediction of a model for an image."""

    image: ImageSize = Field(description="size of the original image")
    tasks: dict[str, TaskPrediction] = Field(description="predictions by name of the task")
    warnings: list[str] = Field(
        [], description="present if the file is damaged but was read: a JPEG that ends too early has gray rows"
    )


class ImageProblem(Answer):
    """The reason why an image has no prediction."""

    problem: ProblemDetails = Field(description="the problem that a request with this image alone gets")


class PredictionList(Answer):
    """The predictions for the images of a request with several, in their order."""

    predictions: list[PredictionView | ImageProblem] = Field(description="an entry for each image")
