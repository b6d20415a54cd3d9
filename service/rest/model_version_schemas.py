"""Response bodies about single versions of models. Torch-free."""

from datetime import datetime
from typing import Any

from pydantic import Field

from service.rest.model_schemas import ModelVersionView
from service.rest.schemas import Answer


class ModelVersionDetails(ModelVersionView):
    """A version of a model with everything that it was made from."""

    name: str = Field(description="name of the model")
    document: dict[str, Any] = Field(description="the resolved document of its training")
    dataset: str | None = Field(description="version of a data set of this service, NAME@VERSION; null for a folder")
    start_weights: str | None = Field(
        description="model.init_from of the document, such as models:/NAME/VERSION, or the weights of its backbone"
    )


class MetricComparison(Answer):
    """A metric of two versions; null if it is not known."""

    name: str = Field(description="name of the metric, such as val/objects/AP50")
    first: float | None = Field(description="value of the first version")
    second: float | None = Field(description="value of the second version")
    difference: float | None = Field(description="second - first")


class FieldComparison(Answer):
    """A field of the document with different values; null if the document does not have it."""

    field: str = Field(description="its dotted name, such as model.optimizer.lr")
    first: Any = Field(description="value in the document of the first version")
    second: Any = Field(description="value in the document of the second version")


class ModelComparison(Answer):
    """Two versions side by side."""

    name: str = Field(description="name of the model")
    first: int = Field(description="number of the first version")
    second: int = Field(description="number of the second version")
    is_comparable: bool = Field(description="whether both have metrics of the same val data")
    metrics: list[MetricComparison] = Field(description="metrics of either version, sorted by name")
    document: list[FieldComparison] = Field(description="fields whose values differ")


class PromotionView(Answer):
    """A move of an alias."""

    alias: str = Field(description="name of the alias")
    from_version: int | None = Field(description="null: the alias did not exist")
    to_version: int | None = Field(description="null: the alias was removed")
    by: str = Field(description="name of the key, or the run that moved it")
    at: datetime = Field(description="time of the move")
    reason: str = Field(description="the reason that was given; empty if none was")


class PromotionList(Answer):
    """The latest moves of the aliases of a model, newest first."""

    promotions: list[PromotionView] = Field(description="moves of all aliases, or of the requested one")
