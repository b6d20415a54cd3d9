"""Response bodies about the images of an evaluated split. Torch-free."""

from pydantic import Field

from pipelines.base.records import Split
from pipelines.tasks.image_marks import EvaluatedImage
from service.rest.schemas import Page


class ResultImage(EvaluatedImage):
    """An image with its labels and predictions."""

    picture: str = Field(description="path of its picture on this server")


class ResultImages(Page):
    """Images of the evaluated split."""

    task: str = Field(description="name of the task")
    kind: str = Field(description="kind of the task")
    split: Split = Field(description="the split that was scored last, whose images a run keeps predictions of")
    classes: list[str] = Field(description="of the task")
    thresholds: dict[str, float] = Field(
        description="score above which a prediction of each class counts; empty where the highest score counts"
    )
    iou: float | None = Field(description="IoU from which a detection finds a label; null for images with classes")
    num_images: int = Field(description="number of images of the split")
    num_found: int = Field(description="number of images that the conditions select")
    images: list[ResultImage] = Field(description="images of this page")
