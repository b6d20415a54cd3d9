"""Response bodies of explanations. Torch-free."""

from pydantic import Field

from pipelines.spec.explanation import ExplanationFacts


class ExplanationView(ExplanationFacts):
    """The explanation of one prediction."""

    values: list[list[float]] = Field(
        description="the map, row by row, for the image as the network sees it; positive values raise the score"
    )
    warnings: list[str] = Field([], description="about the file of the image, if it is damaged but was read")
