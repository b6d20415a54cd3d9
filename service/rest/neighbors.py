"""Request and response bodies about the neighbors of an embedding. Torch-free."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from pipelines.base.records import Split
from service.rest.schemas import Answer

MAX_NEIGHBORS = 50


class NeighborRequest(BaseModel):
    """An embedding, such as one from `POST /v1/models/{name}/predict`."""

    model_config = ConfigDict(extra="forbid")

    embedding: list[float] = Field(min_length=1, max_length=8192, description="vector of any length but 0")
    count: Annotated[int, Field(ge=1, le=MAX_NEIGHBORS)] = Field(5, description="maximum number of neighbors")


class NeighborView(Answer):
    """An embedded image of the evaluated split, or an object in it."""

    image_id: int = Field(description="id in all files of the run")
    source: str = Field(description="source of the document")
    file_name: str = Field(description="relative to the images folder of the source")
    annotation_id: int | None = Field(description="of an object; null for an image")
    identity: str | None = Field(description="null where unknown")
    bbox_xywh: tuple[float, float, float, float] = Field(
        description="in pixels of the original image; of an image, all of it"
    )
    similarity: Annotated[float, Field(ge=-1, le=1)] = Field(description="cosine similarity")
    picture: str = Field(description="path of the picture of the image on this server")


class NeighborList(Answer):
    """The items of the evaluated split that are most similar to an embedding."""

    task: str = Field(description="name of the task")
    split: Split = Field(description="the split that was scored last, whose embeddings a run keeps")
    num_items: int = Field(description="number of embeddings of the split")
    neighbors: list[NeighborView] = Field(description="the most similar first")
