"""What the parts of the job document that describe a network share. Torch-free."""

from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict

Stage = Literal["c3", "c4", "c5"]
"""A stage of a backbone, by the level that it ends with, finest first."""


class Part(BaseModel):
    """A part of the job document: unknown keys are refused, values are never changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


S = TypeVar("S", str, int)


def in_order(stages: tuple[S, ...]) -> tuple[S, ...]:
    """Return the stages, finest first; raises ValueError where one is named twice."""
    if len(set(stages)) < len(stages):
        raise ValueError(f"got {list(stages)}; name each stage once")
    return tuple(sorted(stages))
