"""`evaluation`: what a run measures beside the numbers of its tasks, and how it calibrates its scores."""

from typing import Literal

from pydantic import Field

from pipelines.base.paths import RelativePath
from pipelines.spec.base import Spec

Unlisted = Literal["stop", "slice"]
"""Handling of images without a row in the table of slices: an error, or a slice of their own."""


class SlicesSpec(Spec):
    """A table that describes images; those with equal values in a column are a slice, which is scored alone."""

    path: RelativePath = Field(
        description="CSV file below the data root with the column file_name (path of an image below the data root, or "
        "below the folder of its source's images) and columns such as camera, site or time of day"
    )
    columns: tuple[str, ...] = Field(min_length=1, description="columns whose values are the slices")
    unlisted: Unlisted = Field(
        "stop",
        description="images without a row, or with an empty cell: stop with an error, or score them as a slice of "
        "their own, named (no value)",
    )


class EvaluationSpec(Spec):
    """Measurements on the split that a run is scored on, and the calibration of its scores."""

    corruptions: bool = Field(
        False,
        description="score the images under blur, noise, JPEG, brightness, contrast and rescaling at three strengths "
        "too: 18 more passes",
    )
    slices: SlicesSpec | None = Field(None, description="score parts of the split that a table describes")
    plots: bool = Field(
        True, description="draw charts and sample images into plots/; false saves seconds of each run, as in a search"
    )
    calibrate: Literal["none", "temperature"] = Field(
        "none",
        description="temperature: fit a factor of each task's logits on val at the end of the run, so that scores are "
        "the shares that are right; it belongs to the model from then on",
    )
