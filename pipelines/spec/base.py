"""The base class and the number types of all sections of the document."""

from typing import Annotated

from pydantic import Field

from backbones.spec.section import Section


class Spec(Section):
    """A section of the document: unknown keys are rejected, and instances are immutable."""


Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
CountOrZero = Annotated[int, Field(ge=0, le=1_000_000_000)]
MAX_BATCH = 65_536
"""Maximum number of images of a batch."""
