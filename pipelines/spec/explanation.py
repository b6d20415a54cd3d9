"""Requests for explanations of single predictions, and the facts about an explanation. Torch-free."""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

ExplanationMethod = Literal["gradcam", "occlusion", "integrated_gradients"]
METHODS: tuple[ExplanationMethod, ...] = get_args(ExplanationMethod)
DEFAULT_STEPS: dict[ExplanationMethod, int] = {"occlusion": 12, "integrated_gradients": 32}
"""Steps of the methods that have any: window positions along the longer side, and points of the integral."""
MIN_STEPS, MAX_STEPS = 4, 64
MAX_PREDICTION = 1_000_000

Steps = Annotated[int, Field(ge=MIN_STEPS, le=MAX_STEPS)]
PredictionNumber = Annotated[int, Field(ge=0, le=MAX_PREDICTION)]


class ExplanationRequest(BaseModel):
    """The prediction to explain, and the method.

    Attributes:
        task: name of a task; None: the only one.
        prediction: number of a row in the answer of the task, counted from 0; None: the first row, or the first row
            of `label`.
        label: the class whose score is explained; None: that of the prediction.
        method: None: `gradcam`, or `occlusion` where the similarity of an image to itself is explained.
        steps: of the method; None: see `DEFAULT_STEPS`.
    """

    model_config = ConfigDict(frozen=True)

    task: str | None = None
    prediction: PredictionNumber | None = None
    label: str | None = None
    method: ExplanationMethod | None = None
    steps: Steps | None = None


class ImagePixels(BaseModel):
    """Width and height of an image or a map in pixels."""

    model_config = ConfigDict(frozen=True)

    width: int = Field(description="in pixels")
    height: int = Field(description="in pixels")


class ExplanationFacts(BaseModel):
    """Facts about an explanation: the prediction, the method, and the map."""

    model_config = ConfigDict(frozen=True)

    task: str = Field(description="name of the task")
    prediction: int | None = Field(
        description="number of the prediction in the answer of the task; null: the embedding of the image"
    )
    predicted_label: str | None = Field(description="class of the prediction; null for embeddings")
    predicted_score: float | None = Field(description="score of the prediction, as in the answer; null: it has none")
    bbox_xywh: list[float] | None = Field(
        description="box of the prediction in pixels of the original image; null: it is about the whole image"
    )
    label: str | None = Field(description="class whose score is explained; null for embeddings")
    quantity: Literal["log_odds", "similarity"] = Field(
        description="the explained number: log(score / (1 - score)) before calibration, or the cosine similarity"
    )
    value: float = Field(description="the explained number for the image as it is")
    method: ExplanationMethod = Field(description="method that was used")
    steps: int | None = Field(description="steps of the method; null: it has none")
    level: str | None = Field(description="feature level that Grad-CAM used; null for other methods")
    image: ImagePixels = Field(description="size of the original image")
    map: ImagePixels = Field(description="size of the map, which covers the whole image")
    box_share: float | None = Field(description="share of the image that the box covers; null without a box")
    mass_in_box: float | None = Field(
        description="share of the map's positive values that lies in the box; null without a box or positive values"
    )
    num_passes: int = Field(description="number of images that the network computed for the map")
    seconds: float = Field(description="time for the map")
