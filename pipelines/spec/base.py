"""What all parts of the document share: unknown keys are refused, values are never changed afterwards."""

from typing import Annotated

from pydantic import Field

from backbones.part import Part


class Spec(Part):
    """A part of the job document."""


Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
