"""Registered models and predictions as they go over REST. Torch-free."""

from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

from pydantic import Field, create_model

from pipelines.tasks.kinds import answer_fields
from service.rest.schemas import Answer, Request


class ModelSummary(Answer):
    """A registered model, as in lists."""

    name: str
    aliases: dict[str, int] = Field(description="the version that each points to")
    latest_version: int | None = Field(description="null: it has none")


class ModelList(Answer):
    """All registered models."""

    models: list[ModelSummary]


class ModelVersionView(Answer):
    """One version of a model, and where it comes from."""

    version: int
    created_at: datetime
    aliases: list[str]
    run_id: str | None = Field(description="of MLflow")
    job_id: str | None = Field(description="null: it was not trained by this service")
    select: str | None = Field(description="what champions are compared by")
    val_fingerprint: str | None = Field(description="of the data that gave the metrics: equal ones can be compared")
    val_metrics: dict[str, float]


class ModelView(ModelSummary):
    """A registered model with all its versions, newest first."""

    versions: list[ModelVersionView]


class AliasRequest(Request):
    """Where an alias shall point."""

    version: int = Field(ge=1, le=2**31 - 1)


class AliasView(Answer):
    """Where an alias points."""

    name: str = Field(description="of the model")
    alias: str
    version: int


class ImageSize(Answer):
    """Pixels of the image as given."""

    width: int
    height: int


if TYPE_CHECKING:
    TaskPrediction: TypeAlias = Answer
else:
    TaskPrediction = create_model(
        "TaskPrediction",
        __base__=Answer,
        __module__=__name__,
        __doc__="""Prediction of one task; its fields depend on the kind of the task.""",
        **answer_fields(),
    )


class PredictionView(Answer):
    """Predictions of a model for one image."""

    image: ImageSize
    tasks: dict[str, TaskPrediction]
