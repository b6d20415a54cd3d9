"""Results and predictions of embedding tasks as JSON. Torch-free."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from backbones.spec.section import Section
from pipelines.tasks.base import Share, TaskAnswer, TaskResult, Total


class IdentityScore(Section):
    """One identity of an embedding task; `support` counts its queries."""

    identity: str
    support: Total
    recall_at_1: Share


class EmbeddedItem(Section):
    """An image, or an object in it, which then has the id of its annotation."""

    image_id: int
    file_name: str
    annotation_id: int | None
    identity: str


class NeighborItem(EmbeddedItem):
    """An item of the gallery near a query."""

    similarity: Annotated[float, Field(ge=-1, le=1)] = Field(description="cosine similarity to the query")


class WorstQuery(EmbeddedItem):
    """A query that finds its identity late."""

    map_at_r: Share
    first_found: int | None = Field(
        description="rank of the first item of its identity; null: none of the nearest R or 10"
    )
    neighbors: tuple[NeighborItem, ...] = Field(description="nearest first")


class EmbeddingResult(TaskResult):
    """Scores of retrieval by cosine similarity. Results of earlier versions lack the fields that have a default."""

    kind: Literal["embedding"]
    gallery: Literal["self", "train"]
    num_gallery: Total
    num_queries: Total
    num_left_out: Total = Field(description="queries whose identity has no other item in the gallery")
    recall_at_1: Share | None
    recall_at_5: Share | None = None
    recall_at_10: Share | None = None
    r_precision: Share | None = Field(
        None, description="share of a query's identity among its nearest R, the number of them there are"
    )
    map_at_r: Share | None
    macro_recall_at_1: Share | None = Field(
        description="mean over identities with at least `macro_min_queries` queries"
    )
    nmi: Share | None = Field(None, description="normalized mutual information of identities and k-means clusters")
    macro_min_queries: Total
    per_class: tuple[IdentityScore, ...]
    worst_queries: tuple[WorstQuery, ...] = Field((), description="at most 8 queries with the lowest MAP@R")


class EmbeddingView(BaseModel):
    """A detected object with its embedding."""

    model_config = ConfigDict(frozen=True)

    bbox_xywh: list[float]
    score: float
    embedding: list[float]


class EmbeddingAnswer(TaskAnswer):
    """The vector of an image, or those of the objects found in it."""

    embedding: list[float] | None = Field(None, description="vector of an embedding task on images")
    embeddings: list[EmbeddingView] | None = Field(None, description="vectors of an embedding task on objects")

    @model_validator(mode="after")
    def _one_of_both_is_there(self) -> "EmbeddingAnswer":
        if (self.embedding is None) == (self.embeddings is None):
            raise ValueError("an embedding answers either `embedding` or `embeddings`")
        return self
