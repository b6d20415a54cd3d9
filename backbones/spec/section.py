"""Base class of all sections of the job document. Torch-free."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, model_validator

Stage = Literal["c3", "c4", "c5"]
"""A backbone stage, named after the level that it ends with, finest first."""


class Section(BaseModel):
    """A section of the job document. Unknown keys are rejected, and instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    OLD_NAMES: ClassVar[Mapping[str, str]] = {}
    """Field names of earlier versions that documents may still use, with the current name of each."""

    @classmethod
    def with_current_names(cls, given: Any) -> Any:
        """Return the input with old field names replaced by the current ones."""
        if not isinstance(given, Mapping):
            return given
        for old, new in cls.OLD_NAMES.items():
            if old in given and new in given:
                raise ValueError(f"got both {new!r} and its old name {old!r}; keep {new!r}")
        return {cls.OLD_NAMES.get(key, key): value for key, value in given.items()}

    @model_validator(mode="before")
    @classmethod
    def _accept_old_names(cls, given: Any) -> Any:
        return cls.with_current_names(given)


S = TypeVar("S", str, int)


def in_order(stages: tuple[S, ...]) -> tuple[S, ...]:
    """Return the stages sorted, finest first; raise ValueError if a stage is listed twice."""
    if len(set(stages)) < len(stages):
        raise ValueError(f"got {list(stages)}; list each stage once")
    return tuple(sorted(stages))
