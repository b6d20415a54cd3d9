"""Images of an evaluated split as REST shows them, each with marks at its labels and predictions. Without numpy."""

from typing import Literal, NamedTuple

from pydantic import Field

from backbones.spec.section import Section

Outcome = Literal["right", "confused", "false_positive", "missed", "ignored"]
ErrorOutcome = Literal["confused", "false_positive", "missed"]
Order = Literal["worst", "file"]

NO_CLASS = -1
"""Class of the label, or of the prediction, that a mark lacks."""


class ImageName(NamedTuple):
    """An image as the files of a run folder name it; the file is relative to the images folder of the source."""

    image_id: int
    source: str
    file_name: str


class MarkedLabel(Section):
    """A label of an image."""

    label: str = Field(description="its class")
    outcome: Outcome = Field(description="`ignored`: a crowd, which need not be found")
    predicted: str | None = Field(description="class of the prediction that finds it")
    bbox_xywh: tuple[float, float, float, float] | None = Field(None, description="in pixels of the original image")
    annotation_id: int | None = Field(None, description="of a box")
    score: float | None = Field(None, description="of this class, where images have a score for each class")


class MarkedPrediction(Section):
    """A prediction for an image that is above the threshold."""

    label: str = Field(description="its class")
    score: float = Field(description="from 0 to 1")
    outcome: Outcome = Field(description="`ignored`: it finds a crowd, and is neither right nor wrong")
    truth: str | None = Field(description="class of the label that it finds")
    bbox_xywh: tuple[float, float, float, float] | None = Field(None, description="in pixels of the original image")


class EvaluatedImage(Section):
    """An image with its labels and predictions."""

    image_id: int = Field(description="id in all files of the run")
    source: str = Field(description="source of the document")
    file_name: str = Field(description="relative to the images folder of the source")
    width: int | None = Field(None, description="in pixels, if the predictions have boxes")
    height: int | None = Field(None, description="in pixels, if the predictions have boxes")
    num_errors: int = Field(ge=0, description="number of marks that are not right")
    cost: float | None = Field(None, description="AP of the split without this image, minus AP of the split")
    truth: list[MarkedLabel] = Field(description="the labels")
    predictions: list[MarkedPrediction] = Field(description="highest score first")


def outcome_of(truth: int, predicted: int) -> Outcome:
    """Return the outcome of a mark, given the classes of its label and its prediction."""
    if truth == predicted:
        return "right"
    if predicted == NO_CLASS:
        return "missed"
    return "false_positive" if truth == NO_CLASS else "confused"
