"""What all parts of the document share: unknown keys are refused, values are never changed afterwards."""

from typing import Annotated

from pydantic import Field

from backbones.spec.section import Section


class Spec(Section):
    """A part of the job document."""


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
"""A name that is safe in paths and metric keys."""

TaskName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
"""A name without dots, which part the names of parameters."""

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
