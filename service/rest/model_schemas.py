"""Request and response bodies of registered models and predictions. Torch-free."""

from datetime import datetime

from pydantic import Field

from service.rest.schemas import Answer, Request


class ModelSummary(Answer):
    """A registered model as shown in lists."""

    name: str
    aliases: dict[str, int] = Field(description="version that each alias points to")
    latest_version: int | None = Field(description="null if the model has no versions")


class ModelList(Answer):
    """All registered models."""

    models: list[ModelSummary]


class ModelVersionView(Answer):
    """A version of a model, and its origin."""

    version: int
    created_at: datetime
    aliases: list[str]
    run_id: str | None = Field(description="MLflow run that registered it")
    job_id: str | None = Field(description="job that trained it; null if it was not trained by this service")
    select: str | None = Field(description="metric that decides which version becomes champion")
    val_fingerprint: str | None = Field(description="identifies the val data; metrics can be compared if it is equal")
    val_metrics: dict[str, float]


class ModelView(ModelSummary):
    """A registered model with all its versions, newest first."""

    versions: list[ModelVersionView]


class AliasRequest(Request):
    """The new version of an alias."""

    version: int = Field(ge=1, le=2**31 - 1)


class AliasView(Answer):
    """An alias and the version it points to."""

    name: str = Field(description="name of the model")
    alias: str
    version: int


class ImageSize(Answer):
    """Size of the original image in pixels."""

    width: int
    height: int


class DetectionView(Answer):
    """A detected object."""

    category_id: int
    label: str
    score: float
    bbox_xywh: list[float] = Field(description="x, y, width and height in pixels of the original image")


class LabelView(Answer):
    """A class of an image."""

    label: str
    score: float


class EmbeddingView(Answer):
    """A detected object with its embedding."""

    bbox_xywh: list[float]
    score: float
    embedding: list[float]


class TaskPrediction(Answer):
    """The prediction of one task; the kind of the task decides which field is present."""

    detections: list[DetectionView] | None = Field(None, description="objects of a detection task, highest score first")
    labels: list[LabelView] | None = Field(None, description="classes of a classification task, highest score first")
    embedding: list[float] | None = Field(None, description="vector of an embedding task on images")
    embeddings: list[EmbeddingView] | None = Field(None, description="vectors of an embedding task on objects")


class PredictionView(Answer):
    """The prediction of a model for an image."""

    image: ImageSize
    tasks: dict[str, TaskPrediction]
