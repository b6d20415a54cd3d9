"""Registered models and predictions as they go over REST. Torch-free."""

from datetime import datetime

from pydantic import Field

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


class DetectionView(Answer):
    """One object found."""

    category_id: int
    label: str
    score: float
    bbox_xywh: list[float] = Field(description="x, y, width, height in pixels of the image as given")


class LabelView(Answer):
    """One class of an image."""

    label: str
    score: float


class EmbeddingView(Answer):
    """One object found, as a vector."""

    bbox_xywh: list[float]
    score: float
    embedding: list[float]


class TaskPrediction(Answer):
    """What one task says; which of the fields there is hangs on its kind."""

    detections: list[DetectionView] | None = Field(None, description="of a detection, best first")
    labels: list[LabelView] | None = Field(None, description="of a classification, best first")
    embedding: list[float] | None = Field(None, description="of an embedding of images")
    embeddings: list[EmbeddingView] | None = Field(None, description="of an embedding of objects")


class PredictionView(Answer):
    """What a model says of an image."""

    image: ImageSize
    tasks: dict[str, TaskPrediction]
